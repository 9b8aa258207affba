// Vectors whose lanes are sequences, what a compiler must be told about them, sums over lanes, and e^x.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE_M = 5, TILE_N = 4, MESA_ROWS = 4;  // 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, TILE_M = 3, TILE_N = 4, MESA_ROWS = 2;  // 16 registers
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE_M = 5, TILE_N = 4, MESA_ROWS = 4;  // 32 registers
#else
constexpr int LANES = 4, TILE_M = 3, TILE_N = 4, MESA_ROWS = 2;
#endif

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

static INLINE V fill(float x) { return x - V{}; }  // x + 0 would cost an addition: it is not x for x = -0
static INLINE V fill(V x) { return x; }
static INLINE int min(int a, int b) { return a < b ? a : b; }
static INLINE int max(int a, int b) { return a > b ? a : b; }

static INLINE V square_root(V x) {
    float lanes[LANES];
    std::memcpy(lanes, &x, sizeof x);
    for (int l = 0; l < LANES; l++) lanes[l] = std::sqrt(lanes[l]);
    std::memcpy(&x, lanes, sizeof x);
    return x;
}

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
