// What attention does between its products: softmax, the mesa-layer's recursion, and queries, keys or values of norm 1.
#pragma once
#include "products.h"

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

// Divides x by its norm plus SMALLEST at every position, as PyTorch does; keeps the norms.
constexpr float SMALLEST = 1e-16f;

static void unit_norm(V* x, V* norms) {
    for (int t = 0; t < T; t++, x += D) {
        V sum = {};
        for (int i = 0; i < D; i++) sum += x[i] * x[i];
        norms[t] = square_root(sum);
        const V inverse = 1.f / (norms[t] + SMALLEST);
        for (int i = 0; i < D; i++) x[i] *= inverse;
    }
}

// Turns the gradient g of y = x / (|x| + SMALLEST) into that of x; where x = 0 the norm has the gradient 0.
static void unit_norm_back(const V* y, const V* norms, V* g) {
    for (int t = 0; t < T; t++, y += D, g += D) {
        V along = {};
        for (int i = 0; i < D; i++) along += y[i] * g[i];
        const V inverse = 1.f / (norms[t] + SMALLEST);
        along = norms[t] == fill(0) ? V{} : along * ((norms[t] + SMALLEST) / norms[t]);
        for (int i = 0; i < D; i++) g[i] = (g[i] - y[i] * along) * inverse;
    }
}
