// The MLP of a block, z = a + W_2 gelu(W_1 a) at every position, and its gradients.
//
// The hidden units of one group of sequences would not fit into a second-level cache, so they are worked off in chunks of at most
// CHUNK units, all positions of one after those of another. Matrices are tables [HIDDEN][E]: W_1 as it is, W_2 transposed; beside
// them their transposes, chunk by chunk [E][units].
#pragma once
#include "products.h"

constexpr int CHUNK = 60;

struct Mlp {
    float *w[2], *w_transposed[2], *dw[2];  // W_1 and W_2: tables, chunks, gradients of the tables
    V *in, *hidden;                         // rows: what enters; W_1 a, chunk by chunk [T][units]
};

// Scratch of one layer's backward pass: gelu and its input's gradient for one chunk [T][units]; rows: gradient of what enters.
struct MlpScratch {
    V *activation, *d_hidden, *d_in;
};

template <int HIDDEN> static void mlp_chunks(const Mlp& mlp) {
    Tiling<HIDDEN, CHUNK>::all([=](auto units, int first) INLINE_LAMBDA {
        for (int which = 0; which < 2; which++) for (int u = 0; u < units.value; u++) for (int e = 0; e < E; e++)
            mlp.w_transposed[which][first * E + e * units.value + u] = mlp.w[which][(first + u) * E + e];
    });
}

// gelu(x) = x/2 (1 + tanh u) = x / (1 + e^{-2u}) with u = sqrt(2 / pi) (x + 0.044715 x^3), and its derivative.
struct Gelu {
    V value, slope;
};
static INLINE Gelu gelu(V x) {
    const V square = x * x, twice = x * (square * 0.0713548163f + 1.5957691216f);
    const V power = exponential(twice < fill(0) ? twice : -twice), inverse = 1.f / (1.f + power);
    const V sigmoid = (twice < fill(0) ? power : fill(1)) * inverse;
    return {x * sigmoid, sigmoid + x * (power * inverse * inverse) * (square * 0.2140644488f + 1.5957691216f)};
}

// OUT: how many channels of z are read.
template <int OUT, int HIDDEN> static void mlp_forward(const Mlp& mlp, const MlpScratch& scratch, V* z) {
    for (int t = 0; t < T; t++) std::memcpy(z + t * E, mlp.in + t * E, OUT * sizeof(V));
    Tiling<HIDDEN, CHUNK>::all([=](auto units, int first) INLINE_LAMBDA {
        constexpr int U = units.value;
        V* hidden = mlp.hidden + first * T;
        product<E, U>(SET, 1, mlp.in, E, 0, mlp.w_transposed[0] + first * E, U, 0, hidden, U);
        for (int i = 0; i < T * U; i++) scratch.activation[i] = gelu(hidden[i]).value;
        product<U, OUT>(ADD, 1, scratch.activation, U, 0, mlp.w[1] + first * E, E, 0, z, E);
    });
}

// dz: gradient of z, whose channels from OUT on are zero, on return that of a.
template <int OUT, int HIDDEN> static void mlp_backward(const Mlp& mlp, const MlpScratch& scratch, V* dz) {
    Tiling<HIDDEN, CHUNK>::all([=](auto units, int first) INLINE_LAMBDA {
        constexpr int U = units.value;
        V *activation = scratch.activation, *d_hidden = scratch.d_hidden;
        product<OUT, U>(SET, 1, dz, E, 0, mlp.w_transposed[1] + first * E, U, 0, d_hidden, U);
        for (int i = 0; i < T * U; i++) {
            const Gelu at = gelu(mlp.hidden[first * T + i]);
            activation[i] = at.value, d_hidden[i] *= at.slope;
        }
        weight_gradient<U, OUT>(activation, U, dz, E, mlp.dw[1] + first * E, E);
        weight_gradient<U, E>(d_hidden, U, mlp.in, E, mlp.dw[0] + first * E, E);
        product<U, E>(first == 0 ? SET : ADD, 1, d_hidden, U, 0, mlp.w[0] + first * E, E, 0, scratch.d_in, E);
    });
    for (int i = 0; i < T * E; i++) dz[i] += scratch.d_in[i];
}
