// What a frozen model gives besides the loss of its training: the residual stream as every layer leaves it, and what a loss on
// some positions alone says of the stream that enters the first layer. Layouts and sizes as in kernel.cpp.
#include "products.h"

// Nobody reads the gradients of frozen weights: none of them is computed.
template <int ROWS, int COLS> static void no_gradient(const V*, int, const V*, int, float*, int) {}
#define weight_gradient no_gradient
#include "kernel.cpp"

// The caller's copy (count, T, E) of a group's rows.
static void store_rows(const V* rows, int count, float* to) {
    for (int l = 0; l < count; l++) for (size_t i = 0; i < ROWS; i++) to[l * ROWS + i] = rows[i][l];
}

// One thread computes.
static thread_local Workspace frozen_workspace;

// Lays the whole model out and loads its weights; false if there is no memory, or a kind of layer is not known.
static bool prepare(Part& part, const Call& c) {
    for (int i = 0; i < c.depth; i++) if (kind_called(c.kinds[i]) == UNKNOWN) return false;
    part.compute(c, 0, 0, frozen_workspace);  // of no sequence
    return part.computed;
}

// Half the squared error summed over channels, over the positions t with scored[t] = 1 (others: 0) and over sequences; negative if
// there is no memory, a kind of layer is not known, or tokens are not embedded (nothing is computed below the first layer then).
// d_stream (T, E): its gradient by what enters the first layer, summed over sequences. Targets elsewhere are of no account.
extern "C" double mesaopt_stream_gradient(int depth, const char* const* kinds, int heads, float clip, int first_in, int batch,
                                          const float* tokens, const float* targets, const float* const* parameters,
                                          const float* scored, float* d_stream) {
    float* unread = nullptr;
    const Call call = {depth, kinds, heads, clip, first_in, batch, tokens, targets, parameters, &unread};
    Part part;
    if (!RAW || !prepare(part, call)) return -1;
    const Stack& k = part.stack;
    std::vector<V> d_rows(ROWS, V{});
    double total = 0;
    for (int b = 0; b < batch; b += LANES) {
        const int count = min(batch - b, LANES);
        group_forward(k, tokens + (size_t)b * T * N, targets + (size_t)b * T * N, count);
        V sum = {};
        for (int t = 0; t < T; t++) for (int n = 0; n < N; n++) {
            V& error = k.errors[t * N + n];
            error = scored[t] != 0 ? error : V{};
            sum += error * error;
        }
        for (int l = 0; l < count; l++) total += 0.5 * sum[l];
        group_backward(k, 1.f);
        for (size_t i = 0; i < ROWS; i++) d_rows[i] += k.dx[i];
    }
    for (size_t i = 0; i < ROWS; i++) d_stream[i] = lane_sum(d_rows[i]);
    return total;
}

// Fills entered (depth, batch, T, E) with what every layer reads and left (the same) with its output before the clip. Returns
// false if there is no memory or a kind of layer is not known.
extern "C" bool mesaopt_streams(int depth, const char* const* kinds, int heads, float clip, int first_in, int batch,
                                const float* tokens, const float* const* parameters, float* entered, float* left) {
    const Call call = {depth, kinds, heads, clip, first_in, batch, tokens, nullptr, parameters, nullptr};
    Part part;
    if (!prepare(part, call)) return false;
    const Stack& k = part.stack;
    for (int b = 0; b < batch; b += LANES) {
        const int count = min(batch - b, LANES);
        load_group(tokens + (size_t)b * T * (RAW ? N : E), count, T * (RAW ? N : E), k.tokens);
        if constexpr (RAW) product<N, E>(SET, 1, k.tokens, N, 0, k.embedding_transposed, E, 0, k.layers[0].x, E);
        for (int i = 0; i < depth; i++) {
            forward<E>(k, k.layers[i], i == 0, i + 1 == depth ? k.out : k.layers[i + 1].x);  // all channels of the last one, too
            const size_t at = ((size_t)i * batch + b) * ROWS;
            store_rows(k.layers[i].x, count, entered + at), store_rows(k.layers[i].z, count, left + at);
        }
    }
    return true;
}
