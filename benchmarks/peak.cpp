// The most fused multiply-adds that one core makes: independent chains in registers, no memory. Returns operations (two each).
#if defined(__AVX512F__)
constexpr int LANES = 16, CHAINS = 24;
#elif defined(__AVX__)
constexpr int LANES = 8, CHAINS = 12;
#else
constexpr int LANES = 4, CHAINS = 12;
#endif
typedef float V __attribute__((vector_size(4 * LANES)));

extern "C" double multiply_adds(long rounds, float* out) {
    V sums[CHAINS], a, b;
    for (int i = 0; i < LANES; i++) a[i] = out[0], b[i] = out[1];
    for (int i = 0; i < CHAINS; i++) sums[i] = b * (float)i;  // equal chains would be computed once
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * a + b;
    }
    V total = {};
    for (int i = 0; i < CHAINS; i++) total += sums[i];
    for (int i = 0; i < LANES; i++) out[0] += total[i];
    return 2.0 * LANES * CHAINS * rounds;
}
