// One layer, forward and backward, for one group of sequences; what it keeps, and the memory that this lies in.
#pragma once
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "attention.h"
#include "mlp.h"
#include "products.h"

constexpr bool KEEP_SCORES = T <= 256;  // longer contexts compute the scores again in the backward pass

// kinds of layers come by name, never by a place in somebody's list
enum Kind { LINEAR, SOFTMAX, MESA, UNKNOWN };
static Kind kind_called(const char* name) {
    static const char* const names[] = {"linear", "softmax", "mesa"};
    int kind = LINEAR;
    while (kind != UNKNOWN && std::strcmp(names[kind], name)) kind++;
    return (Kind)kind;
}

// ---- memory -----------------------------------------------------------------------------------------------------------------

// One block per thread that only grows. `lay_out` runs over it twice: without memory, to count, and then for good.
struct Workspace {
    static constexpr size_t HUGE_PAGE = 1 << 21;
    char* memory = nullptr;
    size_t size = 0, used = 0;
    ~Workspace() { std::free(memory); }
    template <class X> X* take(size_t n) {
        const size_t at = used;
        used += (n * sizeof(X) + 63) / 64 * 64;
        return used <= size ? (X*)(memory + at) : nullptr;
    }
    bool grow() {
        if (used <= size) return true;
        std::free(memory);
        size = (used + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        memory = (char*)std::aligned_alloc(HUGE_PAGE, size);
        if (!memory) size = 0;
#if defined(__linux__)
        if (memory) madvise(memory, size, MADV_HUGEPAGE);  // fewer address translations: 5 to 10 % of a step
#endif
        return memory;
    }
};

// What one layer keeps: tables for q, k, v, o of every head, and one group's activations.
struct Layer {
    Kind kind;
    float *m, *m_transposed, *dm;  // [4][heads] tables
    const float* lam;              // [heads]
    V* dlam;                       // [heads]
    V *x, *z;                      // rows: input; output before the clip
    V *qkv, *y, *r, *s;            // [PROJECTED][heads] heads; outputs; R_t q_t of a mesa layer; scores
    V* norms;                      // [PROJECTED][heads][T] of queries, keys and values before they are normalised
    Mlp mlp;
};

struct Stack {
    int depth, heads;
    float clip;  // 0: none
    Layer* layers;
    const float* position;  // [2][heads][T][D]: what the positions add to the first layer's queries and keys, or null
    V* d_position;
    V *tokens, *targets, *errors;             // [T][N or E], [T][N], [T][N]
    V *out, *dx;                              // rows: output of the last layer; gradient
    V *dy, *dqkv, *dr, *ds, *scores, *state;  // scratch of one layer's backward pass and of `mesa`
    MlpScratch mlp;
    const float* unembedding;                 // (N, E)
    float *unembedding_transposed, *embedding_transposed, *d_embedding, *d_unembedding;  // (E, N), (N, E), (E, N), (N, E)
};

constexpr size_t TABLE = (size_t)D * E, HEAD = (size_t)T * D, ROWS = (size_t)T * E, SCORES = (size_t)T * T;
constexpr int PROJECTED = MERGED ? 1 : 3;  // queries, keys, values
static_assert(!MERGED || D == E, "keys and values are the residual stream");
static_assert(!MERGED || NORMALISE == 0, "queries and keys are not known one by one");

static bool is_normalised(int which, bool first) { return !first && (NORMALISE >> which & 1); }

static V* scores_of(const Stack& k, const Layer& l, int h) { return KEEP_SCORES ? l.s + h * SCORES : k.scores; }

// Queries that meet the keys in the attention: the mesa layer's are R_t q_t.
static const V* queries_of(const Layer& l, int h) { return (l.kind == MESA ? l.r : l.qkv) + h * HEAD; }
static const V* keys_of(const Stack& k, const Layer& l, int h) { return MERGED ? l.x : l.qkv + (k.heads + h) * HEAD; }
static const V* values_of(const Stack& k, const Layer& l, int h) { return MERGED ? l.x : l.qkv + (2 * k.heads + h) * HEAD; }

static void attention_weights(const Stack& k, const Layer& l, int h) {
    scores(queries_of(l, h), keys_of(k, l, h), scores_of(k, l, h));
    if (l.kind == SOFTMAX) softmax(scores_of(k, l, h));
}

// ---- one layer --------------------------------------------------------------------------------------------------------------

static void project(const Stack& k, const Layer& l, int which, int h, bool first) {
    const int index = which * k.heads + h;
    V* head = l.qkv + index * HEAD;
    const bool shifted = first && k.position && which < 2;
    if (shifted) for (size_t i = 0; i < HEAD; i++) head[i] = fill(k.position[index * HEAD + i]);
    product<E, D>(shifted ? ADD : SET, 1, l.x, E, 0, l.m + index * TABLE, D, 0, head, D);
    if (is_normalised(which, first)) unit_norm(head, l.norms + index * T);
}

// OUT: how many channels of the output are read: E, or in the last layer of an unembedded model n_obs. An MLP reads all of them.
template <int OUT> constexpr int MIXED = D_MLP > 0 ? E : OUT;

template <int OUT> static void forward(const Stack& k, const Layer& l, bool first, V* out) {
    for (int h = 0; h < k.heads; h++) {
        for (int which = 0; which < PROJECTED; which++) project(k, l, which, h, first);
        if (l.kind == MESA) mesa(keys_of(k, l, h), l.qkv + h * HEAD, l.lam[h], l.r + h * HEAD, k.state);
        attention_weights(k, l, h);
        attend(scores_of(k, l, h), values_of(k, l, h), l.y + h * HEAD);
    }
    V* mixed = D_MLP > 0 ? l.mlp.in : l.z;
    for (int t = 0; t < T; t++) std::memcpy(mixed + t * E, l.x + t * E, MIXED<OUT> * sizeof(V));
    product<D, MIXED<OUT>>(ADD, k.heads, l.y, D, HEAD, l.m_transposed + 3 * k.heads * TABLE, E, TABLE, mixed, E);
    if constexpr (D_MLP > 0) mlp_forward<OUT, D_MLP>(l.mlp, k.mlp, l.z);
    if (k.clip == 0) return;
    const V high = fill(k.clip), low = -high;
    for (int t = 0; t < T; t++) for (int e = 0; e < OUT; e++) {
        const V z = l.z[t * E + e];
        out[t * E + e] = z > high ? high : z < low ? low : z;  // NaN stays NaN
    }
}

// Gradients of the head's queries, keys and values from that of its output. Merged heads add those of keys and values to that of
// the residual stream, which dk and dv then are (null: nobody needs it).
static void attention_back(const Stack& k, const Layer& l, int h, const V* dy, V* dq, V* dk, V* dv) {
    constexpr Into into = MERGED ? ADD : SET;
    const V *keys = keys_of(k, l, h), *queries = queries_of(l, h);
    V* s = scores_of(k, l, h);
    if (!KEEP_SCORES) attention_weights(k, l, h);
    scores(dy, values_of(k, l, h), k.ds);
    if (dv) attend_back(into, s, dy, dv);
    if (l.kind == SOFTMAX) softmax_back(s, k.ds);
    attend(k.ds, keys, l.kind == MESA ? k.dr : dq);
    if (l.kind != MESA) {
        if (dk) attend_back(into, k.ds, queries, dk);
        return;
    }
    // The solve is its own adjoint: dq_t = R_t dr_t, and R_t's dependence on the keys gives -(dq r^T + r dq^T) k.
    mesa(keys, k.dr, l.lam[h], dq, k.state);
    scores(dq, keys, k.ds, true);
    attend_back(SET, k.ds, queries, dk);
    attend_back(SET, s, dq, k.dr);
    V sum = {};
    for (size_t i = 0; i < HEAD; i++) dk[i] -= k.dr[i], sum += dq[i] * queries[i];
    l.dlam[h] += sum / (l.lam[h] * l.lam[h]);
}

// k.dx: gradient of the layer's output, on return that of its input (if anything below needs it).
template <int OUT> static void backward(const Stack& k, const Layer& l, bool first) {
    const bool below = !first || RAW;
    V *dq = k.dqkv, *stream = below ? k.dx : nullptr, *dk = MERGED ? stream : dq + HEAD, *dv = MERGED ? stream : dq + 2 * HEAD;
    const V high = fill(k.clip), low = -high;
    if (k.clip != 0) for (int t = 0; t < T; t++) for (int e = 0; e < OUT; e++) {
        const V z = l.z[t * E + e];
        V& dx = k.dx[t * E + e];
        dx = z >= low ? (z <= high ? dx : V{}) : V{};
    }
    if constexpr (D_MLP > 0) mlp_backward<OUT, D_MLP>(l.mlp, k.mlp, k.dx);
    // W_O's product reads dx for every head before the first head's input gradient is added to it.
    for (int h = 0; h < k.heads; h++) {
        const size_t o = (3 * k.heads + h) * TABLE;
        weight_gradient<MIXED<OUT>, D>(k.dx, E, l.y + h * HEAD, D, l.dm + o, D);
        product<MIXED<OUT>, D>(SET, 1, k.dx, E, 0, l.m + o, D, 0, k.dy + h * HEAD, D);
    }
    for (int h = 0; h < k.heads; h++) {
        attention_back(k, l, h, k.dy + h * HEAD, dq, dk, dv);
        for (int which = 0; which < PROJECTED; which++) {
            const int index = which * k.heads + h;
            if (is_normalised(which, first)) unit_norm_back(l.qkv + index * HEAD, l.norms + index * T, k.dqkv + which * HEAD);
            weight_gradient<E, D>(l.x, E, k.dqkv + which * HEAD, D, l.dm + index * TABLE, D);
        }
        if (below) product<D, E>(ADD, PROJECTED, k.dqkv, D, HEAD, l.m_transposed + h * TABLE, E, k.heads * TABLE, k.dx, E);
        if (first && k.position) for (int which = 0; which < 2; which++)
            for (size_t i = 0; i < HEAD; i++) k.d_position[(which * k.heads + h) * HEAD + i] += k.dqkv[which * HEAD + i];
    }
}
