// Loss and gradients of a stack of attention layers (linear, softmax, mesa) with or without MLPs, single precision, one or two threads.
//
// Data layout. One vector lane is one sequence: a vector V holds the same number of LANES sequences, and every activation is
// an array of V, so that all arithmetic is elementwise and lanes meet only in the sums that are weight gradients. A batch is
// worked off in groups of LANES sequences, each group forward and backward, so that its activations stay in cache.
// The groups of the first half and those of the second have sums of their own, whoever computes them: two threads change no bit.
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
#include <system_error>
#include <thread>
#include <vector>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "layer.h"

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

static void give(Into into, float& to, float value) { to = into == SET ? value : to + value; }

// Sets the caller's arrays, or adds to them.
static void store_gradients(Into into, const Stack& k, float* const* gradients, int first_in) {
    for (int i = 0; i < k.depth; i++) {
        const Layer& l = k.layers[i];
        for (int which = 0; which < 4; which++) for (int h = 0; h < k.heads; h++) {
            if (!is_given(which)) continue;
            const int row = row_of(i, which, first_in);
            float* g = gradients[PER_LAYER * i + which] + (size_t)h * D * row;
            const float* dm = l.dm + (which * k.heads + h) * TABLE;
            for (int e = 0; e < E; e++) for (int d = 0; d < D; d++) give(into, g[which < 3 ? d * row + e : e * D + d], dm[e * D + d]);
        }
        if (l.kind == MESA) for (int h = 0; h < k.heads; h++) give(into, gradients[PER_LAYER * i + 4][h], lane_sum(l.dlam[h]));
        for (int u = 0; u < D_MLP; u++) for (int e = 0; e < E; e++) {
            give(into, gradients[PER_LAYER * i + 5][u * E + e], l.mlp.dw[0][u * E + e]);
            give(into, gradients[PER_LAYER * i + 6][e * D_MLP + u], l.mlp.dw[1][u * E + e]);
        }
    }
    float* const* ends = gradients + PER_LAYER * k.depth;
    for (int i = 0; i < N * E && RAW; i++) give(into, ends[0][i], k.d_embedding[i]), give(into, ends[1][i], k.d_unembedding[i]);
    for (size_t i = 0; k.position && i < 2 * k.heads * HEAD; i++) give(into, ends[2][i], lane_sum(k.d_position[i]));
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

// What the caller asks for.
struct Call {
    int depth;
    const char* const* kinds;
    int heads;
    float clip;
    int first_in, batch;
    const float *tokens, *targets;
    const float* const* parameters;
    float* const* gradients;  // null: loss only
};

// Part of a batch, with sums of its own.
struct Part {
    std::vector<Layer> layers;
    Stack stack = {};
    double sum = 0;         // of squared errors
    bool computed = false;  // or there is no memory

    void compute(const Call& c, int from, int to, Workspace& workspace) {
        const float* const* ends = c.parameters + PER_LAYER * c.depth;
        layers.resize(c.depth);
        for (int i = 0; i < c.depth; i++)
            layers[i].kind = kind_called(c.kinds[i]), layers[i].lam = c.parameters[PER_LAYER * i + 4];
        Stack& k = stack;
        k.depth = c.depth, k.heads = c.heads, k.clip = c.clip, k.layers = layers.data();
        k.unembedding = ends[1], k.position = ends[2];
        lay_out(workspace, k);
        if (!workspace.grow()) return;
        lay_out(workspace, k);
        load_weights(k, c.parameters, c.first_in);
        if constexpr (RAW) transpose(ends[0], E, N, k.embedding_transposed), transpose(ends[1], N, E, k.unembedding_transposed);
        if (c.gradients) clear_gradients(k);
        for (int b = from; b < to; b += LANES) {
            const size_t at = (size_t)b * T;
            sum += group_forward(k, c.tokens + at * (RAW ? N : E), c.targets + at * N, min(to - b, LANES));
            if (c.gradients) group_backward(k, 1.f / ((float)c.batch * T));
        }
        computed = true;
    }
    void store(Into into, const Call& c) const {
        if (c.gradients && computed) store_gradients(into, stack, c.gradients, c.first_in);
    }
};

// How this thread rounds, and whether it takes denormal numbers for zero.
#if defined(__SSE__)
static uint64_t float_mode() { return _mm_getcsr(); }
static void set_float_mode(uint64_t mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
static uint64_t float_mode() {
    uint64_t mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static void set_float_mode(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
static uint64_t float_mode() { return 0; }
static void set_float_mode(uint64_t) {}
#endif

// A thread that computes as this one does; not joinable where the system has none to give.
template <class F> static std::thread thread_like_this(F work) {
    try {
        return std::thread([work, mode = float_mode()] { set_float_mode(mode), work(); });
    } catch (const std::system_error&) {
        return {};
    }
}

// Mean over sequences and positions of half the squared error summed over channels; NaN if there is no memory, -1 for a kind of
// layer that is not known here. Fills `gradients` (null: loss only). tokens (batch, T, N or E), targets (batch, T, N). With two
// `threads` each computes half of the batch.
extern "C" double mesaopt_loss(int depth, const char* const* kinds, int heads, float clip, int first_in, int batch, int threads,
                               const float* tokens, const float* targets, const float* const* parameters, float* const* gradients) {
    static thread_local Workspace workspaces[2];
    for (int i = 0; i < depth; i++) if (kind_called(kinds[i]) == UNKNOWN) return -1;
    const Call call = {depth, kinds, heads, clip, first_in, batch, tokens, targets, parameters, gradients};
    const int groups = (batch + LANES - 1) / LANES, middle = min((groups + 1) / 2 * LANES, batch);
    Part first, second;
    std::thread other;
    if (threads > 1 && middle < batch)
        other = thread_like_this([&, workspace = workspaces + 1] { second.compute(call, middle, batch, *workspace); });
    const bool apart = other.joinable();
    first.compute(call, 0, middle, workspaces[0]);
    first.store(SET, call);
    if (apart) other.join();
    else if (middle < batch) second.compute(call, middle, batch, workspaces[0]);
    if (middle < batch) second.store(ADD, call);
    if (!first.computed || (middle < batch && !second.computed)) return std::nan("");
    return 0.5 * (first.sum + second.sum) / ((double)batch * T);
}
