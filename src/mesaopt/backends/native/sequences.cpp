// Training batches: random words, standard normal numbers, Haar-random orthogonal matrices, states, observations; single precision.
//
// As in kernel.cpp one vector lane is one sequence, and LANES of them are worked off at a time. Arrays come in and go out as they
// lie in the PyTorch code, row-major; `count` sequences fill the first lanes of a group, the other lanes hold zeros. N, the size of
// the state, is set with -D.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float V __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));

typedef float Q __attribute__((vector_size(16), may_alias));
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Int4){__VA_ARGS__})
typedef int32_t Int4 __attribute__((vector_size(16)));
#endif

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

// From 4 x 4 numbers to their transpose.
static inline void transpose(Q (&r)[4]) {
    const Q a = SHUFFLE(r[0], r[1], 0, 4, 1, 5), b = SHUFFLE(r[2], r[3], 0, 4, 1, 5);
    const Q c = SHUFFLE(r[0], r[1], 2, 6, 3, 7), d = SHUFFLE(r[2], r[3], 2, 6, 3, 7);
    r[0] = SHUFFLE(a, b, 0, 1, 4, 5);
    r[1] = SHUFFLE(a, b, 2, 3, 6, 7);
    r[2] = SHUFFLE(c, d, 0, 1, 4, 5);
    r[3] = SHUFFLE(c, d, 2, 3, 6, 7);
}

// Transposes `rows` x `columns` numbers whose rows lie `from_row` and `to_row` apart.
static void transposed(const float* from, int64_t from_row, int rows, int columns, float* to, int64_t to_row) {
    for (int i = 0; i < rows; i += 4) for (int j = 0; j < columns; j += 4)
        if (i + 4 <= rows && j + 4 <= columns) {
            Q r[4];
            for (int k = 0; k < 4; k++) std::memcpy(&r[k], from + (i + k) * from_row + j, sizeof r[k]);
            transpose(r);
            for (int k = 0; k < 4; k++) std::memcpy(to + (j + k) * to_row + i, &r[k], sizeof r[k]);
        } else {
            for (int k = i; k < min(i + 4, rows); k++)
                for (int l = j; l < min(j + 4, columns); l++) to[l * to_row + k] = from[k * from_row + l];
        }
}

// n numbers of each of `count` sequences into lanes, and back.
static void gather(const float* from, int count, int n, V* to) {
    for (int i = 0; i < n && count < LANES; i++) to[i] = V{};
    transposed(from, n, count, n, (float*)to, LANES);
}
static void scatter(const V* from, int count, int n, float* to) { transposed((const float*)from, LANES, n, count, to, n); }

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

// NumPy's default generator, PCG64 XSL-RR: state = state * MULTIPLIER + increment, and a word is the two halves of the state folded
// and turned.
typedef unsigned __int128 State;
static inline State wide(uint64_t high, uint64_t low) { return (State)high << 64 | low; }
constexpr State MULTIPLIER = (State)2549297995355413924u << 64 | 4865540595714422341u;
static inline uint64_t word(State state) {
    const uint64_t folded = (uint64_t)(state >> 64) ^ (uint64_t)state;
    const int turn = (int)(state >> 122);
    return folded >> turn | folded << (-turn & 63);
}

// Several steps of the generator at once.
struct Jump {
    State factor = 1, summand = 0;
    Jump(State increment, uint64_t steps) {
        State one = MULTIPLIER, add = increment;
        for (; steps; steps >>= 1, add = add * one + add, one *= one) if (steps & 1) {
            factor *= one;
            summand = summand * one + add;
        }
    }
    State operator()(State state) const { return state * factor + summand; }
};

// The next `count` words. A step waits for the one before it, so AHEAD sequences that jump AHEAD steps at a time take turns.
extern "C" void mesaopt_words(uint64_t high, uint64_t low, uint64_t increment_high, uint64_t increment_low, int64_t count,
                              uint64_t* words) {
    constexpr int AHEAD = 4;
    const State increment = wide(increment_high, increment_low);
    const Jump one(increment, 1), jump(increment, AHEAD);
    State next[AHEAD], state = wide(high, low);
    for (int i = 0; i < AHEAD; i++) next[i] = state = one(state);
    for (int64_t n = 0; n < count; n += AHEAD) for (int i = 0; i < AHEAD; i++) {
        if (n + i < count) words[n + i] = word(next[i]);
        next[i] = jump(next[i]);
    }
}

// U(0, 1) on a grid of 2^-24, from the upper bits of random words.
static inline V uniform(const uint32_t* words, int count) {
    const U bits = (U)load((const float*)words, count);
    return __builtin_convertvector((I)(bits >> 8), V) * 0x1p-24f;
}

// 2 `pairs` numbers of N(0, 1) by Box and Muller in place of as many random words, the radii from the first half, the angles from
// the second.
extern "C" void mesaopt_normal(int64_t pairs, uint32_t* words) {
    for (int64_t i = 0; i < pairs; i += LANES) {
        const int count = pairs - i < LANES ? (int)(pairs - i) : LANES;
        const V radius = square_root(-2.f * logarithm(1.f - uniform(words + i, count)));
        V cosine, sine;
        circle(uniform(words + pairs + i, count), cosine, sine);
        store(radius * cosine, (float*)words + i, count);
        store(radius * sine, (float*)words + pairs + i, count);
    }
}

// ---- systems and states -----------------------------------------------------------------------------------------------------

// Q of A = Q R with a positive diagonal of R, in place of A: Gram and Schmidt, each vector twice, which keeps Q orthogonal to
// rounding whatever A (Giraud and others, 2005).
static void orthogonalise(V (*a)[N]) {
    for (int j = 0; j < N; j++) {
        V column[N];
        for (int i = 0; i < N; i++) column[i] = a[i][j];
        for (int pass = 0; pass < 2; pass++) for (int k = 0; k < j; k++) {
            V dot = {};
            for (int i = 0; i < N; i++) dot += a[i][k] * column[i];
            for (int i = 0; i < N; i++) column[i] -= dot * a[i][k];
        }
        V square = {};
        for (int i = 0; i < N; i++) square += column[i] * column[i];
        const V inverse = 1.f / square_root(square);
        for (int i = 0; i < N; i++) a[i][j] = column[i] * inverse;
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

// e^x for x <= 0 to about one unit in the last place; 0 below the normal range.
static inline V exponential(V x) {
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

// gelu by its approximation with tanh: x / (1 + e^-z), z = 2 sqrt(2 / pi) (x + 0.044715 x^3), with an exponential that is never
// large.
static inline V gelu(V x) {
    const V z = x * (1.595769122f + 0.0713548163f * x * x), e = exponential(z < V{} ? z : -z);
    return x * (z < V{} ? e : fill(1.f)) / (1.f + e);
}

// What K hidden units add to the output; `units` (K, 2, N) are their weights from the input and those to the output.
template <int K>
static inline void add_units(const float* units, const V* x, V* out) {
    V hidden[K] = {};
    for (int i = 0; i < N; i++) for (int k = 0; k < K; k++) hidden[k] += units[2 * N * k + i] * x[i];
    for (int k = 0; k < K; k++) hidden[k] = gelu(hidden[k]);
    for (int i = 0; i < N; i++) for (int k = 0; k < K; k++) out[i] += units[2 * N * k + N + i] * hidden[k];
}

// f(x) = MLP(x) / ||MLP(x)|| of `hidden` units.
static inline void normalised_mlp(int hidden, const float* units, const V* x, V* f) {
    constexpr int AT_ONCE = 8;  // so that no sum waits for the one before it
    V out[N] = {}, square = {};
    int k = 0;
    for (; k + AT_ONCE <= hidden; k += AT_ONCE) add_units<AT_ONCE>(units + 2 * N * k, x, out);
    for (; k < hidden; k++) add_units<1>(units + 2 * N * k, x, out);
    for (int i = 0; i < N; i++) square += out[i] * out[i];
    const V inverse = 1.f / square_root(square < fill(0x1p-126f) ? fill(0x1p-126f) : square);
    for (int i = 0; i < N; i++) f[i] = out[i] * inverse;
}

// states (batch, time + 1, N) with s_1 = first (N, batch) and s_{t+1} = W f(s_t) + scale noise_t, clipped to [-bound, bound];
// W (batch, N, N). f is the normalised MLP of `hidden` units, or the identity where there are none. Of a group of sequences that
// begins at b, noise(to, b, count) writes the noise (time, N) to where s_2, ... shall be. False where there is no memory.
template <typename Noise>
static bool roll_out(int batch, int time, float scale, float bound, int hidden, const float* units, const float* w,
                     const float* first, float* states, Noise noise) {
    const int length = (time + 1) * N;
    V* rows = vectors(length + N * N);
    V (*W)[N] = (V (*)[N])(rows + length);  // transposed
    const V upper = fill(bound), lower = fill(-bound);
    for (int b = 0; rows && b < batch; b += LANES) {
        const int count = min(LANES, batch - b);
        gather(w + (int64_t)b * N * N, count, N * N, W[0]);
        for (int i = 0; i < N; i++) for (int j = 0; j < i; j++) std::swap(W[i][j], W[j][i]);
        for (int i = 0; i < N; i++) rows[i] = load(first + (int64_t)i * batch + b, count);
        noise(rows + N, b, count);
        V* s = rows;
        for (int t = 0; t < time; t++, s += N) {
            V next[N], features[N];  // next: in registers for small N, so that a step loads each entry of W once
            if (hidden) normalised_mlp(hidden, units, s, features);
            const V* from = hidden ? features : s;
            for (int i = 0; i < N; i++) next[i] = scale * s[N + i];
            for (int j = 0; j < N; j++) {
                const V x = from[j];
                for (int i = 0; i < N; i++) next[i] += W[j][i] * x;
            }
            for (int i = 0; i < N; i++) {
                const V x = next[i] > upper ? upper : next[i];  // NaN is neither above nor below
                s[N + i] = x < lower ? lower : x;
            }
        }
        scatter(rows, count, length, states + (int64_t)b * length);
    }
    std::free(rows);
    return rows;
}

// With given noise (time, N, batch).
extern "C" bool mesaopt_roll_out(int batch, int time, float scale, float bound, int hidden, const float* units, const float* w,
                                 const float* first, const float* noise, float* states) {
    return roll_out(batch, time, scale, bound, hidden, units, w, first, states, [=](V* to, int b, int count) {
        for (int i = 0; i < time * N; i++) to[i] = load(noise + (int64_t)i * batch + b, count);
    });
}

// From s_1 uniform in (-start, start) and with noise that is never all in memory: the numbers that `mesaopt_words` and `mesaopt_normal`
// would make one after the other, of which a group of sequences has LANES of every `batch`. `batch` and time N are even.
extern "C" bool mesaopt_draw_states(int batch, int time, float scale, float bound, float start, int hidden, const float* units,
                                    const float* w, uint64_t high, uint64_t low, uint64_t increment_high, uint64_t increment_low,
                                    float* states) {
    constexpr int WORDS = LANES / 2;  // each holds two numbers
    float* first = (float*)std::malloc((int64_t)N * batch * sizeof(float));
    if (!first) return false;
    mesaopt_words(high, low, increment_high, increment_low, (int64_t)N * batch / 2, (uint64_t*)first);
    for (int i = 0; i < N * batch; i += LANES) {
        const int count = min(LANES, N * batch - i);
        store(2.f * start * uniform((uint32_t*)first + i, count) - start, first + i, count);
    }
    const State increment = wide(increment_high, increment_low);
    const int64_t rows = (int64_t)time * N / 2;
    const Jump one(increment, 1), row(increment, batch / 2), half(increment, rows * (batch / 2));
    State state = Jump(increment, (int64_t)N * batch / 2)(wide(high, low));
    const bool done = roll_out(batch, time, scale, bound, hidden, units, w, first, states, [&](V* to, int, int) {
        uint64_t* words = (uint64_t*)to;
        State radius[WORDS], angle[WORDS];
        for (int i = 0; i < WORDS; i++) angle[i] = half(radius[i] = state = one(state));
        for (int64_t r = 0; r < rows; r++, words += WORDS) for (int i = 0; i < WORDS; i++) {
            words[i] = word(radius[i]);
            words[rows * WORDS + i] = word(angle[i]);
            radius[i] = row(radius[i]);
            angle[i] = row(angle[i]);
        }
        mesaopt_normal(rows * LANES, (uint32_t*)to);
    });
    std::free(first);
    return done;
}

// observations (batch, length, n_obs) = C s_t + scale noise_t, in place of the noise; C (batch, n_obs, N), states (batch, length, N).
// False where there is no memory.
extern "C" bool mesaopt_observe(int batch, int length, int n_obs, float scale, const float* c, const float* states, float* noise) {
    V *C = vectors((n_obs + length) * N + length * n_obs), *s = C + n_obs * N, *out = s + length * N;
    for (int b = 0; C && b < batch; b += LANES) {
        const int count = min(LANES, batch - b);
        float* observed = noise + (int64_t)b * length * n_obs;
        gather(c + (int64_t)b * n_obs * N, count, n_obs * N, C);
        gather(states + (int64_t)b * length * N, count, length * N, s);
        gather(observed, count, length * n_obs, out);
        for (int t = 0; t < length; t++) for (int i = 0; i < n_obs; i++) {
            V sum = {};
            for (int j = 0; j < N; j++) sum += C[i * N + j] * s[t * N + j];
            out[t * n_obs + i] = sum + scale * out[t * n_obs + i];
        }
        scatter(out, count, length * n_obs, observed);
    }
    std::free(C);
    return C;
}
