// Loss and gradients of a stack of attention layers (linear, softmax, mesa) with or without MLPs, single precision, one thread.
//
// Data layout. One vector lane is one sequence: a vector V holds the same number of LANES sequences, and every activation is
// an array of V, so that all arithmetic is elementwise and lanes meet only in the sums that are weight gradients. A batch is
// worked off in groups of LANES sequences, each group forward and backward, so that its activations stay in cache.
//
//   rows      [T][E]        residual stream: position, channel
//   head      [T][D]        queries, keys, values, outputs of one head: position, channel
//   scores    [T][T]        attention of one head: query position, key position; tiles above the diagonal are never touched
//   M         [E][D] float  a head's matrix as one table: W_Q, W_K, W_V transposed, W_O as it is; M^T [D][E] is kept beside it
//   dM        [E][D] float  its gradient, the sum over all sequences
//
// With M there are three products with weights only: head = rows M (projections; gradient of W_O's input), rows += head M^T
// (W_O; gradient of the projections' input) and dM += rows^T head. Parameters and gradients come in and go out as row-major
// arrays shaped as in the PyTorch model. T, D (d_head), E (d_model), N (n_obs), RAW (tokens are embedded), MERGED, D_MLP (0: no
// MLP) and NORMALISE (bit 0: queries, 1: keys, 2: values have norm 1 in all layers but the first) are set with -D; depth, heads,
// layer types, clip and batch are arguments.
//
// MERGED is for linear layers whose heads are wide (D = E here): W_K^T W_Q takes the place of W_Q, W_O W_V that of W_O, and the
// residual stream itself is keys and values. That is fewer operations as soon as two E x E products cost less than four E x d_head.
#include <cstdlib>
#include <vector>
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

// ---- the whole model --------------------------------------------------------------------------------------------------------

// The caller's arrays. Per layer W_Q, W_K (heads, D, in), W_V (heads, D, E), W_O (heads, E, D), lam (heads) or null, W_1 (D_MLP, E)
// and W_2 (E, D_MLP) or null, with in = E except for the first layer's W_Q and W_K, whose rows are `first_in` long (only the first E are used here); MERGED:
// W_K^T W_Q (heads, E, E) for W_Q, W_O W_V (heads, E, E) for W_O, null for W_K and W_V. Then embedding (E, N), unembedding (N, E)
// if RAW, position (2, heads, T, D) or null. Gradients alike.
constexpr int PER_LAYER = 7;

static constexpr bool is_given(int which) { return !MERGED || which == 0 || which == 3; }

static int row_of(int layer, int which, int first_in) { return layer == 0 && which < 2 ? first_in : E; }

static void transpose(const float* from, int rows, int cols, float* to) {
    for (int i = 0; i < rows; i++) for (int j = 0; j < cols; j++) to[j * rows + i] = from[i * cols + j];
}

static void load_weights(const Stack& k, const float* const* parameters, int first_in) {
    for (int i = 0; i < k.depth; i++) for (int which = 0; which < 4; which++) for (int h = 0; h < k.heads; h++) {
        if (!is_given(which)) continue;
        const int row = row_of(i, which, first_in);
        const float* w = parameters[PER_LAYER * i + which] + (size_t)h * D * row;
        float* m = k.layers[i].m + (which * k.heads + h) * TABLE;
        float* m_transposed = k.layers[i].m_transposed + (which * k.heads + h) * TABLE;
        for (int e = 0; e < E; e++) for (int d = 0; d < D; d++)
            m[e * D + d] = m_transposed[d * E + e] = which < 3 ? w[d * row + e] : w[e * D + d];
    }
    if constexpr (D_MLP > 0) for (int i = 0; i < k.depth; i++) {
        const Mlp& mlp = k.layers[i].mlp;
        std::memcpy(mlp.w[0], parameters[PER_LAYER * i + 5], D_MLP * E * sizeof(float));
        transpose(parameters[PER_LAYER * i + 6], E, D_MLP, mlp.w[1]);
        mlp_chunks<D_MLP>(mlp);
    }
}

static void store_gradients(const Stack& k, float* const* gradients, int first_in) {
    for (int i = 0; i < k.depth; i++) {
        const Layer& l = k.layers[i];
        for (int which = 0; which < 4; which++) for (int h = 0; h < k.heads; h++) {
            if (!is_given(which)) continue;
            const int row = row_of(i, which, first_in);
            float* g = gradients[PER_LAYER * i + which] + (size_t)h * D * row;
            const float* dm = l.dm + (which * k.heads + h) * TABLE;
            for (int e = 0; e < E; e++) for (int d = 0; d < D; d++) g[which < 3 ? d * row + e : e * D + d] = dm[e * D + d];
        }
        if (l.kind == MESA) for (int h = 0; h < k.heads; h++) gradients[PER_LAYER * i + 4][h] = lane_sum(l.dlam[h]);
        if (D_MLP == 0) continue;
        std::memcpy(gradients[PER_LAYER * i + 5], l.mlp.dw[0], D_MLP * E * sizeof(float));
        transpose(l.mlp.dw[1], D_MLP, E, gradients[PER_LAYER * i + 6]);
    }
    float* const* ends = gradients + PER_LAYER * k.depth;
    for (int i = 0; i < N * E && RAW; i++) ends[0][i] = k.d_embedding[i], ends[1][i] = k.d_unembedding[i];
    for (size_t i = 0; k.position && i < 2 * k.heads * HEAD; i++) ends[2][i] = lane_sum(k.d_position[i]);
}

// Turns `count` sequences of `width` floats into lanes. The lanes that are left over hold zeros: so are their predictions (there are
// no biases), their errors and their gradients.
static void load_group(const float* from, int count, int width, V* to) {
    for (int l = 0; l < LANES; l++) for (int i = 0; i < width; i++)
        ((float*)to)[(size_t)i * LANES + l] = l < count ? from[(size_t)l * width + i] : 0.f;
}

static void lay_out_layer(Workspace& w, const Stack& k, Layer& l) {
    const size_t tables = 4 * k.heads * TABLE, head = k.heads * HEAD;
    l.m = w.take<float>(tables), l.m_transposed = w.take<float>(tables);
    l.dm = w.take<float>(tables), l.dlam = w.take<V>(k.heads);
    l.x = w.take<V>(ROWS), l.z = w.take<V>(k.clip != 0 ? ROWS : 0);
    l.qkv = w.take<V>(PROJECTED * head), l.y = w.take<V>(head), l.r = w.take<V>(l.kind == MESA ? head : 0);
    l.s = w.take<V>(KEEP_SCORES ? k.heads * SCORES : 0), l.norms = w.take<V>(NORMALISE ? PROJECTED * k.heads * T : 0);
    for (int i = 0; i < 2; i++)
        for (float** table : {l.mlp.w, l.mlp.w_transposed, l.mlp.dw}) table[i] = w.take<float>(D_MLP * E);
    l.mlp.in = w.take<V>(D_MLP > 0 ? ROWS : 0), l.mlp.hidden = w.take<V>(D_MLP * T);
}

static void lay_out(Workspace& w, Stack& k) {
    w.used = 0;
    for (int i = 0; i < k.depth; i++) lay_out_layer(w, k, k.layers[i]);
    k.out = w.take<V>(ROWS), k.dx = w.take<V>(ROWS);
    for (int i = 0; i < k.depth && k.clip == 0; i++) k.layers[i].z = i + 1 < k.depth ? k.layers[i + 1].x : k.out;
    k.dy = w.take<V>(k.heads * HEAD), k.dqkv = w.take<V>(PROJECTED * HEAD), k.dr = w.take<V>(HEAD);
    k.ds = w.take<V>(SCORES), k.scores = w.take<V>(KEEP_SCORES ? 0 : SCORES), k.state = w.take<V>(D * D);
    k.mlp.activation = w.take<V>(min(D_MLP, CHUNK) * T), k.mlp.d_hidden = w.take<V>(min(D_MLP, CHUNK) * T);
    k.mlp.d_in = w.take<V>(D_MLP > 0 ? ROWS : 0);
    k.d_position = w.take<V>(k.position ? 2 * k.heads * HEAD : 0);
    k.tokens = w.take<V>(T * (size_t)(RAW ? N : 0)), k.targets = w.take<V>(T * N), k.errors = w.take<V>(T * N);
    k.unembedding_transposed = w.take<float>(RAW * N * E), k.embedding_transposed = w.take<float>(RAW * N * E);
    k.d_embedding = w.take<float>(RAW * N * E), k.d_unembedding = w.take<float>(RAW * N * E);
    if (!RAW) k.tokens = k.layers[0].x;
}

static void clear_gradients(const Stack& k) {
    for (int i = 0; i < k.depth; i++) {
        std::memset(k.layers[i].dm, 0, 4 * k.heads * TABLE * sizeof(float));
        std::memset(k.layers[i].dlam, 0, k.heads * sizeof(V));
        for (float* dw : k.layers[i].mlp.dw) std::memset(dw, 0, D_MLP * E * sizeof(float));
    }
    if (k.position) std::memset(k.d_position, 0, 2 * k.heads * HEAD * sizeof(V));
    if (RAW) std::memset(k.d_embedding, 0, N * E * sizeof(float)), std::memset(k.d_unembedding, 0, N * E * sizeof(float));
}

// Runs one group of `count` sequences forward; returns the sum of its squared errors and leaves the errors in k.errors.
static double group_forward(const Stack& k, const float* tokens, const float* targets, int count) {
    load_group(tokens, count, T * (RAW ? N : E), k.tokens);
    load_group(targets, count, T * N, k.targets);
    if constexpr (RAW) product<N, E>(SET, 1, k.tokens, N, 0, k.embedding_transposed, E, 0, k.layers[0].x, E);
    for (int i = 0; i < k.depth; i++) {
        const bool last = i + 1 == k.depth;
        if (last && !RAW) forward<N>(k, k.layers[i], i == 0, k.out);
        else forward<E>(k, k.layers[i], i == 0, last ? k.out : k.layers[i + 1].x);
    }
    if constexpr (RAW) product<E, N>(SET, 1, k.out, E, 0, k.unembedding_transposed, N, 0, k.errors, N);
    else for (int t = 0; t < T; t++) std::memcpy(k.errors + t * N, k.out + t * E, N * sizeof(V));
    V sum = {};
    for (int i = 0; i < T * N; i++) {
        k.errors[i] -= k.targets[i];
        sum += k.errors[i] * k.errors[i];
    }
    double total = 0;
    for (int l = 0; l < count; l++) total += sum[l];
    return total;
}

// Adds the group's gradients; `scale` turns an error into the loss's gradient.
static void group_backward(const Stack& k, float scale) {
    for (int i = 0; i < T * N; i++) k.errors[i] *= scale;
    if constexpr (RAW) {
        weight_gradient<N, E>(k.errors, N, k.out, E, k.d_unembedding, E);
        product<N, E>(SET, 1, k.errors, N, 0, k.unembedding, E, 0, k.dx, E);
    } else {
        std::memset(k.dx, 0, ROWS * sizeof(V));
        for (int t = 0; t < T; t++) std::memcpy(k.dx + t * E, k.errors + t * N, N * sizeof(V));
    }
    for (int i = k.depth - 1; i >= 0; i--) {
        if (i + 1 == k.depth && !RAW) backward<N>(k, k.layers[i], i == 0);
        else backward<E>(k, k.layers[i], i == 0);
    }
    if constexpr (RAW) weight_gradient<E, N>(k.dx, E, k.tokens, N, k.d_embedding, N);
}

// Mean over sequences and positions of half the squared error summed over channels; NaN if there is no memory, -1 for a kind of
// layer that is not known here. Fills `gradients` (null: loss only). tokens (batch, T, N or E), targets (batch, T, N).
extern "C" double mesaopt_loss(int depth, const char* const* kinds, int heads, float clip, int first_in, int batch, const float* tokens,
                               const float* targets, const float* const* parameters, float* const* gradients) {
    static thread_local Workspace workspace;
    std::vector<Layer> layers(depth);
    for (int i = 0; i < depth; i++) {
        layers[i].kind = kind_called(kinds[i]), layers[i].lam = parameters[PER_LAYER * i + 4];
        if (layers[i].kind == UNKNOWN) return -1;
    }
    const float* const* ends = parameters + PER_LAYER * depth;
    Stack k = {};
    k.depth = depth, k.heads = heads, k.clip = clip, k.layers = layers.data(), k.unembedding = ends[1], k.position = ends[2];
    lay_out(workspace, k);
    if (!workspace.grow()) return std::nan("");
    lay_out(workspace, k);
    load_weights(k, parameters, first_in);
    if constexpr (RAW) transpose(ends[0], E, N, k.embedding_transposed), transpose(ends[1], N, E, k.unembedding_transposed);
    if (gradients) clear_gradients(k);
    double sum = 0;
    for (int b = 0; b < batch; b += LANES) {
        const int count = min(batch - b, LANES);
        sum += group_forward(k, tokens + (size_t)b * T * (RAW ? N : E), targets + (size_t)b * T * N, count);
        if (gradients) group_backward(k, 1.f / ((float)batch * T));
    }
    if (gradients) store_gradients(k, gradients, first_in);
    return 0.5 * sum / ((double)batch * T);
}
