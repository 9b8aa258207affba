// Loss and gradients of a stack of attention layers (linear, softmax, mesa), single precision, one thread.
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
// arrays shaped as in the PyTorch model. T, D (d_head), E (d_model), N (n_obs), RAW (tokens are embedded) and MERGED are set with
// -D; depth, heads, layer types, clip and batch are arguments.
//
// MERGED is for linear layers whose heads are wide (D = E here): W_K^T W_Q takes the place of W_Q, W_O W_V that of W_O, and the
// residual stream itself is keys and values. That is fewer operations as soon as two E x E products cost less than four E x d_head.
//
// Products are built from register tiles: TILE_M x TILE_N accumulators stay in registers while the inner index runs. Blocks of
// BLOCK row tiles and of INNER inner steps keep both operands in the first-level cache.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE_M = 5, TILE_N = 4, MESA_ROWS = 4;  // 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, TILE_M = 3, TILE_N = 4, MESA_ROWS = 2;  // 16 registers
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE_M = 5, TILE_N = 4, MESA_ROWS = 4;  // 32 registers
#else
constexpr int LANES = 4, TILE_M = 3, TILE_N = 4, MESA_ROWS = 2;
#endif
constexpr int BLOCK = 4, INNER = 64;
constexpr bool KEEP_SCORES = T <= 256;  // longer contexts compute the scores again in the backward pass

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Int4){__VA_ARGS__})
typedef int32_t Int4 __attribute__((vector_size(16)));
#endif
// Keeps a loaded vector in a register; compilers would rather load it again for each use, and loads are what limits the tiles.
#if defined(__AVX512F__)
#define HOLD(v) asm("" : "+v"(v))
#elif defined(__x86_64__)
#define HOLD(v) asm("" : "+x"(v))
#elif defined(__aarch64__)
#define HOLD(v) asm("" : "+w"(v))
#else
#define HOLD(v)
#endif

// kinds of layers come by name, never by a place in somebody's list
enum Kind { LINEAR, SOFTMAX, MESA, UNKNOWN };
static Kind kind_called(const char* name) {
    static const char* const names[] = {"linear", "softmax", "mesa"};
    int kind = LINEAR;
    while (kind != UNKNOWN && std::strcmp(names[kind], name)) kind++;
    return (Kind)kind;
}

static INLINE V fill(float x) { return x - V{}; }  // x + 0 would cost an addition: it is not x for x = -0
static INLINE V fill(V x) { return x; }
static INLINE int min(int a, int b) { return a < b ? a : b; }
static INLINE int max(int a, int b) { return a > b ? a : b; }

// Sum over the lanes: of one vector, and of four at a time.
typedef float Q __attribute__((vector_size(16)));

static INLINE Q quarters(V v) {
    Q part[LANES / 4];
    std::memcpy(part, &v, sizeof v);
    for (int i = 1; i < LANES / 4; i++) part[0] += part[i];
    return part[0];
}
static INLINE float lane_sum(V v) {
    const Q q = quarters(v);
    return (q[0] + q[1]) + (q[2] + q[3]);
}
static INLINE Q lane_sums(V a, V b, V c, V d) {
    const Q x = quarters(a), y = quarters(b), z = quarters(c), w = quarters(d);
    const Q xy = SHUFFLE(x, y, 0, 4, 1, 5) + SHUFFLE(x, y, 2, 6, 3, 7), zw = SHUFFLE(z, w, 0, 4, 1, 5) + SHUFFLE(z, w, 2, 6, 3, 7);
    return SHUFFLE(xy, zw, 0, 1, 4, 5) + SHUFFLE(xy, zw, 2, 3, 6, 7);
}

// ---- tiles ------------------------------------------------------------------------------------------------------------------

template <int S> struct Size { static constexpr int value = S; };

// Cuts 0..LENGTH into tiles of at most LARGEST whose sizes differ by at most one.
template <int LENGTH, int LARGEST> struct Tiling {
    static constexpr int count = (LENGTH + LARGEST - 1) / LARGEST, size = LENGTH / count, larger = LENGTH % count;
    static INLINE int start(int tile) { return tile * size + min(tile, larger); }
    static INLINE int holding(int i) { return i < larger * (size + 1) ? i / (size + 1) : (i - larger) / size; }

    template <class F> static INLINE void each(int from, int to, F f) {
        int tile = from;
        if constexpr (larger > 0)
            for (; tile < min(to, larger); tile++) f(Size<size + 1>{}, start(tile));
        for (; tile < to; tile++) f(Size<size>{}, start(tile));
    }
    template <class F> static INLINE void all(F f) { each(0, count, f); }
    // Calls f(from, to) for blocks of BLOCK tiles.
    template <class F> static INLINE void blocks(F f) {
        for (int from = 0; from < count; from += BLOCK) f(from, min(from + BLOCK, count));
    }
};

// C[i][j] += sum_k A[i][k] B[k][j]; strides in elements; B is vectors, or floats that all lanes share.
template <int ROWS, int COLS> struct Tile {
    V c[ROWS][COLS] = {};

    template <class B>
    INLINE void add(int inner, const V* a, int a_row, int a_inner, const B* b, int b_inner, int b_col) {
        for (int k = 0; k < inner; k++) {
            V left[ROWS];
            UNROLL for (int i = 0; i < ROWS; i++) {
                left[i] = a[i * a_row + k * a_inner];
                HOLD(left[i]);
            }
            UNROLL for (int j = 0; j < COLS; j++) {
                V right = fill(b[k * b_inner + j * b_col]);
                HOLD(right);
                UNROLL for (int i = 0; i < ROWS; i++) c[i][j] += left[i] * right;
            }
        }
    }
    INLINE void load(const V* from, int row) {
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLS; j++) c[i][j] = from[i * row + j];
    }
    // to[i][j] += sum over lanes
    INLINE void add_lane_sums(float* to, int row) const {
        UNROLL for (int i = 0; i < ROWS; i++) {
            if constexpr (COLS == 4) {
                Q sums;
                std::memcpy(&sums, to + i * row, sizeof sums);
                sums += lane_sums(c[i][0], c[i][1], c[i][2], c[i][3]);
                std::memcpy(to + i * row, &sums, sizeof sums);
            } else {
                UNROLL for (int j = 0; j < COLS; j++) to[i * row + j] += lane_sum(c[i][j]);
            }
        }
    }
    INLINE void store(V* to, int row) const {
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLS; j++) to[i * row + j] = c[i][j];
    }
};

enum Into { SET, ADD };

// ---- products with weights --------------------------------------------------------------------------------------------------

// C (T x COLS) = or += sum over chunks of A_c (T x K) W_c (K x COLS).
template <int K, int COLS>
static void product(Into into, int chunks, const V* a, int a_row, int a_chunk, const float* w, int w_row, int w_chunk, V* c, int c_row) {
    Tiling<T, TILE_M>::all([=](auto rows, int m) INLINE_LAMBDA {
        Tiling<COLS, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Tile<rows.value, cols.value> tile;
            if (into == ADD) tile.load(c + m * c_row + n, c_row);
            for (int i = 0; i < chunks; i++) tile.add(K, a + i * a_chunk + m * a_row, a_row, 1, w + i * w_chunk + n, w_row, 1);
            tile.store(c + m * c_row + n, c_row);
        });
    });
}

// dW (ROWS x COLS) += X^T Y with X (T x ROWS), Y (T x COLS).
template <int ROWS, int COLS> static void weight_gradient(const V* x, int x_row, const V* y, int y_row, float* dw, int dw_row) {
    for (int t = 0; t < T; t += INNER) Tiling<ROWS, TILE_M>::blocks([=](int from, int to) INLINE_LAMBDA {
        Tiling<COLS, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Tiling<ROWS, TILE_M>::each(from, to, [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                tile.add(min(T - t, INNER), x + t * x_row + m, 1, x_row, y + t * y_row + n, y_row, 1);
                tile.add_lane_sums(dw + m * dw_row + n, dw_row);
            });
        });
    });
}

// ---- products along time ----------------------------------------------------------------------------------------------------

// S = tril(A B^T), or S -= tril(A B^T); zeros between the diagonal and the end of its row tile.
static void scores(const V* a, const V* b, V* s, bool subtract = false) {
    using Rows = Tiling<T, TILE_M>;
    using Cols = Tiling<T, TILE_N>;
    Rows::blocks([=](int from, int to) INLINE_LAMBDA {
        Cols::each(0, Cols::holding(Rows::start(to) - 1) + 1, [=](auto cols, int n) INLINE_LAMBDA {
            Rows::each(max(from, Rows::holding(n)), to, [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                tile.add(D, a + m * D, D, 1, b + n * D, 1, D);
                V* to = s + m * T + n;
                if (subtract) UNROLL for (int i = 0; i < rows.value; i++) UNROLL for (int j = 0; j < cols.value; j++)
                    tile.c[i][j] = to[i * T + j] - tile.c[i][j];
                tile.store(to, T);
            });
        });
    });
    Rows::all([=](auto rows, int m) INLINE_LAMBDA {
        for (int i = 0; i < rows.value; i++) for (int n = m + i + 1; n < m + rows.value; n++) s[(m + i) * T + n] = V{};
    });
}

// Y = S X: every position sums over its past.
static void attend(const V* s, const V* x, V* y) {
    using Rows = Tiling<T, TILE_M>;
    for (int k = 0; k < T; k += INNER) Rows::blocks([=](int from, int to) INLINE_LAMBDA {
        Tiling<D, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Rows::each(max(from, Rows::holding(k)), to, [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                if (k > 0) tile.load(y + m * D + n, D);
                tile.add(min(m + rows.value - k, INNER), s + m * T + k, T, 1, x + k * D + n, D, 1);
                tile.store(y + m * D + n, D);
            });
        });
    });
}

// Y = or += S^T X: every position sums over its future.
static void attend_back(Into into, const V* s, const V* x, V* y) {
    using Rows = Tiling<T, TILE_M>;
    for (int i = 0; i < T * D && into == SET; i++) y[i] = V{};
    for (int k = 0; k < T; k += INNER) Rows::blocks([=](int from, int to) INLINE_LAMBDA {
        Tiling<D, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Rows::each(from, min(to, Rows::holding(min(k + INNER, T) - 1) + 1), [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                const int first = max(k, m);
                tile.load(y + m * D + n, D);
                tile.add(min(k + INNER, T) - first, s + first * T + m, 1, T, x + first * D + n, D, 1);
                tile.store(y + m * D + n, D);
            });
        });
    });
}

// ---- softmax and mesa -------------------------------------------------------------------------------------------------------

// e^x for x <= 0 to about one unit in the last place; 0 below the normal range, NaN for NaN.
static INLINE V exponential(V x) {
    const V magic = fill(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
    const V shifted = x * 1.44269504f + magic, n = shifted - magic;
    const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.f;
    const I power = ((I)shifted - (I)magic + 127) << 23;
    return x < fill(-87.f) ? V{} : p * (V)power;
}

static void softmax(V* s) {
    const float scale = 1 / std::sqrt((float)D);
    for (int t = 0; t < T; t++, s += T) {
        V largest = s[0], sum = {};
        for (int i = 1; i <= t; i++) largest = s[i] > largest ? s[i] : largest;
        for (int i = 0; i <= t; i++) sum += s[i] = exponential((s[i] - largest) * scale);
        const V inverse = 1.f / sum;
        for (int i = 0; i <= t; i++) s[i] *= inverse;
    }
}

// Turns the gradient g of the attention weights p into that of the scores.
static void softmax_back(const V* p, V* g) {
    const float scale = 1 / std::sqrt((float)D);
    for (int t = 0; t < T; t++, p += T, g += T) {
        V mean = {};
        for (int i = 0; i <= t; i++) mean += p[i] * g[i];
        for (int i = 0; i <= t; i++) g[i] = p[i] * (g[i] - mean) * scale;
    }
}

// r_t = R_t q_t with R_t = (sum_{t' <= t} k k^T + I / lam)^-1 by Sherman-Morrison: R_t = R_{t-1} - c u^T with u = R_{t-1} k_t and
// c = u / (1 + k.u). The update for t-1 is applied while t's products are formed: one pass over R (D x D, `state`) per position.
static void mesa(const V* k, const V* q, float lam, V* r, V* state) {
    V u[2][D] = {}, c[D] = {}, w[D];
    for (int i = 0; i < D * D; i++) state[i] = fill(i % (D + 1) == 0 ? lam : 0.f);
    for (int t = 0; t < T; t++, k += D, q += D, r += D) {
        const V* before = u[t % 2];
        V* now = u[(t + 1) % 2];
        Tiling<D, MESA_ROWS>::all([&](auto rows, int m) INLINE_LAMBDA {
            V a[rows.value] = {}, b[rows.value] = {}, step[rows.value];
            UNROLL for (int i = 0; i < rows.value; i++) step[i] = c[m + i];
            for (int j = 0; j < D; j++) {
                V u_j = before[j], k_j = k[j], q_j = q[j];
                HOLD(u_j);
                HOLD(k_j);
                HOLD(q_j);
                UNROLL for (int i = 0; i < rows.value; i++) {
                    const V x = state[(m + i) * D + j] - step[i] * u_j;
                    state[(m + i) * D + j] = x;
                    a[i] += x * k_j;
                    b[i] += x * q_j;
                }
            }
            UNROLL for (int i = 0; i < rows.value; i++) now[m + i] = a[i], w[m + i] = b[i];
        });
        V ku[4] = {fill(1)}, uq[4] = {};  // four partial sums each: a single one would wait for every addition
        for (int i = 0; i < D; i++) ku[i % 4] += k[i] * now[i], uq[i % 4] += now[i] * q[i];
        const V inverse = 1.f / ((ku[0] + ku[1]) + (ku[2] + ku[3]));
        const V along = ((uq[0] + uq[1]) + (uq[2] + uq[3])) * inverse;
        for (int i = 0; i < D; i++) c[i] = now[i] * inverse, r[i] = w[i] - now[i] * along;
    }
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
    const float* unembedding;                 // (N, E)
    float *unembedding_transposed, *embedding_transposed, *d_embedding, *d_unembedding;  // (E, N), (N, E), (E, N), (N, E)
};

constexpr size_t TABLE = (size_t)D * E, HEAD = (size_t)T * D, ROWS = (size_t)T * E, SCORES = (size_t)T * T;
constexpr int PROJECTED = MERGED ? 1 : 3;  // queries, keys, values
static_assert(!MERGED || D == E, "keys and values are the residual stream");

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
}

// OUT: how many channels of the output are read: E, or in the last layer of an unembedded model n_obs.
template <int OUT> static void forward(const Stack& k, const Layer& l, bool first, V* out) {
    for (int h = 0; h < k.heads; h++) {
        for (int which = 0; which < PROJECTED; which++) project(k, l, which, h, first);
        if (l.kind == MESA) mesa(keys_of(k, l, h), l.qkv + h * HEAD, l.lam[h], l.r + h * HEAD, k.state);
        attention_weights(k, l, h);
        attend(scores_of(k, l, h), values_of(k, l, h), l.y + h * HEAD);
    }
    for (int t = 0; t < T; t++) std::memcpy(l.z + t * E, l.x + t * E, OUT * sizeof(V));
    product<D, OUT>(ADD, k.heads, l.y, D, HEAD, l.m_transposed + 3 * k.heads * TABLE, E, TABLE, l.z, E);
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
    // W_O's product reads dx for every head before the first head's input gradient is added to it.
    for (int h = 0; h < k.heads; h++) {
        const size_t o = (3 * k.heads + h) * TABLE;
        weight_gradient<OUT, D>(k.dx, E, l.y + h * HEAD, D, l.dm + o, D);
        product<OUT, D>(SET, 1, k.dx, E, 0, l.m + o, D, 0, k.dy + h * HEAD, D);
    }
    for (int h = 0; h < k.heads; h++) {
        attention_back(k, l, h, k.dy + h * HEAD, dq, dk, dv);
        for (int which = 0; which < PROJECTED; which++)
            weight_gradient<E, D>(l.x, E, k.dqkv + which * HEAD, D, l.dm + (which * k.heads + h) * TABLE, D);
        if (below) product<D, E>(ADD, PROJECTED, k.dqkv, D, HEAD, l.m_transposed + h * TABLE, E, k.heads * TABLE, k.dx, E);
        if (first && k.position) for (int which = 0; which < 2; which++)
            for (size_t i = 0; i < HEAD; i++) k.d_position[(which * k.heads + h) * HEAD + i] += k.dqkv[which * HEAD + i];
    }
}

// ---- the whole model --------------------------------------------------------------------------------------------------------

// The caller's arrays. Per layer W_Q, W_K (heads, D, in), W_V (heads, D, E), W_O (heads, E, D), lam (heads) or null, with
// in = E except for the first layer's W_Q and W_K, whose rows are `first_in` long (only the first E are used here); MERGED:
// W_K^T W_Q (heads, E, E) for W_Q, W_O W_V (heads, E, E) for W_O, null for W_K and W_V. Then embedding (E, N), unembedding (N, E)
// if RAW, position (2, heads, T, D) or null. Gradients alike.
constexpr int PER_LAYER = 5;

static constexpr bool is_given(int which) { return !MERGED || which == 0 || which == 3; }

static int row_of(int layer, int which, int first_in) { return layer == 0 && which < 2 ? first_in : E; }

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
    }
    float* const* ends = gradients + PER_LAYER * k.depth;
    for (int i = 0; i < N * E && RAW; i++) ends[0][i] = k.d_embedding[i], ends[1][i] = k.d_unembedding[i];
    for (size_t i = 0; k.position && i < 2 * k.heads * HEAD; i++) ends[2][i] = lane_sum(k.d_position[i]);
}

static void transpose(const float* from, int rows, int cols, float* to) {
    for (int i = 0; i < rows; i++) for (int j = 0; j < cols; j++) to[j * rows + i] = from[i * cols + j];
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
    l.s = w.take<V>(KEEP_SCORES ? k.heads * SCORES : 0);
}

static void lay_out(Workspace& w, Stack& k) {
    w.used = 0;
    for (int i = 0; i < k.depth; i++) lay_out_layer(w, k, k.layers[i]);
    k.out = w.take<V>(ROWS), k.dx = w.take<V>(ROWS);
    for (int i = 0; i < k.depth && k.clip == 0; i++) k.layers[i].z = i + 1 < k.depth ? k.layers[i + 1].x : k.out;
    k.dy = w.take<V>(k.heads * HEAD), k.dqkv = w.take<V>(PROJECTED * HEAD), k.dr = w.take<V>(HEAD);
    k.ds = w.take<V>(SCORES), k.scores = w.take<V>(KEEP_SCORES ? 0 : SCORES), k.state = w.take<V>(D * D);
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
