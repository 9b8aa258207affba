// Training batches: standard normal numbers, Haar-random orthogonal matrices and the roll-out of the states, single precision.
//
// As in kernel.cpp one vector lane is one sequence, and LANES of them are worked off at a time. Arrays come in and go out as they
// lie in the PyTorch code, row-major; `count` sequences fill the first lanes of a group, the other lanes hold zeros. N, the size of
// the state, is set with -D.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

constexpr int CHUNK = 64;

typedef float V __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));

static inline V fill(float x) { return x - V{}; }
static inline int min(int a, int b) { return a < b ? a : b; }

// The first `count` lanes; nearly always all of them, for which no function is called.
static inline V load(const float* from, int count) {
    V v = {};
    if (count == LANES) std::memcpy(&v, from, sizeof v);
    else std::memcpy(&v, from, count * sizeof(float));
    return v;
}
static inline void store(V v, float* to, int count) {
    if (count == LANES) std::memcpy(to, &v, sizeof v);
    else std::memcpy(to, &v, count * sizeof(float));
}
static inline V square_root(V v) {
    float x[LANES];
    std::memcpy(x, &v, sizeof v);
    for (int lane = 0; lane < LANES; lane++) x[lane] = std::sqrt(x[lane]);
    std::memcpy(&v, x, sizeof v);
    return v;
}

// n numbers of each of `count` sequences that lie n apart, and back: some at a time, so that both sides stay in cache.
static void gather(const float* from, int count, int n, V* to) {
    for (int i = 0; i < n; i++) to[i] = V{};
    float* lanes = (float*)to;
    for (int start = 0; start < n; start += CHUNK) for (int lane = 0; lane < count; lane++)
        for (int i = start; i < min(n, start + CHUNK); i++) lanes[i * LANES + lane] = from[(int64_t)lane * n + i];
}
static void scatter(const V* from, int count, int n, float* to) {
    const float* lanes = (const float*)from;
    for (int start = 0; start < n; start += CHUNK) for (int lane = 0; lane < count; lane++)
        for (int i = start; i < min(n, start + CHUNK); i++) to[(int64_t)lane * n + i] = lanes[i * LANES + lane];
}

// ---- normal numbers ---------------------------------------------------------------------------------------------------------

// log x for normal x > 0: x = m 2^e with m in [1/sqrt(2), sqrt(2)), and a polynomial in m - 1.
static inline V logarithm(V x) {
    const I bits = (I)x - 0x3f3504f3, exponent = bits >> 23;
    const V m = (V)((bits & 0x007fffff) + 0x3f3504f3) - 1.f, e = __builtin_convertvector(exponent, V), square = m * m;
    V p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * square - 2.12194440e-4f * e - 0.5f * square;
    return m + p + 0.693359375f * e;
}

// cos and sin of 2 pi u for u in [0, 1): of the distance to the nearest quarter turn, at most pi / 4, then turned back.
static inline void circle(V u, V& cosine, V& sine) {
    const I quarter = __builtin_convertvector(u * 4.f + 0.5f, I);
    const V x = (u - __builtin_convertvector(quarter, V) * 0.25f) * 6.28318531f, z = x * x;
    const V s = ((z * -1.9515295891e-4f + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
    const V c = ((z * 2.443315711809948e-5f - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.f;
    const I odd = (quarter & 1) != 0, cosine_sign = ((quarter + 1) & 2) << 30, sine_sign = (quarter & 2) << 30;
    cosine = (V)((I)(odd ? s : c) ^ cosine_sign);
    sine = (V)((I)(odd ? c : s) ^ sine_sign);
}

// U(0, 1) on a grid of 2^-24, from the upper bits of random words.
static inline V uniform(const uint32_t* words, int count) {
    const V v = load((const float*)words, count);
    return __builtin_convertvector((I)((U)v >> 8), V) * 0x1p-24f;
}

// 2 `pairs` numbers of N(0, 1) by Box and Muller, from as many random words: radii from the first half, angles from the second.
extern "C" void mesaopt_normal(const uint32_t* words, int64_t pairs, float* out) {
    for (int64_t i = 0; i < pairs; i += LANES) {
        const int count = pairs - i < LANES ? (int)(pairs - i) : LANES;
        const V radius = square_root(-2.f * logarithm(1.f - uniform(words + i, count)));
        V cosine, sine;
        circle(uniform(words + pairs + i, count), cosine, sine);
        store(radius * cosine, out + i, count);
        store(radius * sine, out + pairs + i, count);
    }
}

// ---- systems and states -----------------------------------------------------------------------------------------------------

// Q of A = Q R with a positive diagonal of R, in place of A: Gram and Schmidt, each vector twice, which keeps Q orthogonal to
// rounding whatever A (Giraud and others, 2005).
static void orthogonalise(V (*a)[N]) {
    for (int j = 0; j < N; j++) {
        for (int pass = 0; pass < 2; pass++) for (int k = 0; k < j; k++) {
            V dot = {};
            for (int i = 0; i < N; i++) dot += a[i][k] * a[i][j];
            for (int i = 0; i < N; i++) a[i][j] -= dot * a[i][k];
        }
        V square = {};
        for (int i = 0; i < N; i++) square += a[i][j] * a[i][j];
        const V inverse = 1.f / square_root(square);
        for (int i = 0; i < N; i++) a[i][j] *= inverse;
    }
}

static V* vectors(int64_t n) { return (V*)std::aligned_alloc(sizeof(V), n * sizeof(V)); }

// Orthogonal matrices (batch, N, N) in place of Gaussian ones. False where there is no memory.
extern "C" bool mesaopt_orthogonal(int batch, float* matrices) {
    V* a = vectors(N * N);
    for (int b = 0; a && b < batch; b += LANES) {
        float* group = matrices + (int64_t)b * N * N;
        gather(group, min(LANES, batch - b), N * N, a);
        orthogonalise((V (*)[N])a);
        scatter(a, min(LANES, batch - b), N * N, group);
    }
    std::free(a);
    return a;
}

// states (batch, time + 1, N) with s_1 = first (N, batch) and s_{t+1} = W s_t + scale noise_t, clipped to [-bound, bound];
// W (batch, N, N), noise (time, N, batch).
extern "C" bool mesaopt_roll_out(int batch, int time, float scale, float bound, const float* w, const float* first, const float* noise,
                                 float* states) {
    const int length = (time + 1) * N;
    V* rows = vectors(length + N * N);
    V (*W)[N] = (V (*)[N])(rows + length);
    const V upper = fill(bound), lower = fill(-bound);
    for (int b = 0; rows && b < batch; b += LANES) {
        const int count = min(LANES, batch - b);
        gather(w + (int64_t)b * N * N, count, N * N, W[0]);
        for (int i = 0; i < N; i++) rows[i] = load(first + (int64_t)i * batch + b, count);
        V* s = rows;
        for (int t = 0; t < time; t++, s += N) for (int i = 0; i < N; i++) {
            V sum = scale * load(noise + ((int64_t)t * N + i) * batch + b, count);
            for (int j = 0; j < N; j++) sum += W[i][j] * s[j];
            sum = sum > upper ? upper : sum;  // NaN is neither above nor below
            s[N + i] = sum < lower ? lower : sum;
        }
        scatter(rows, count, length, states + (int64_t)b * length);
    }
    std::free(rows);
    return rows;
}
