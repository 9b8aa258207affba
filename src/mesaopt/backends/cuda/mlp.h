// The MLP of a block, z = a + W_2 gelu(W_1 a) at every position, UNITS hidden units at a time, and its gradients.
//
// Rows 0..UNITS of the array W hold rows of W_1, the next ones rows of W_2 transposed. Hidden units lie where scores lie
// otherwise.
#pragma once
#include "products.h"

#if MESAOPT_D_MLP > 0

// gelu(x) = x/2 (1 + tanh u) with u = sqrt(2 / pi) (x + 0.044715 x^3), and its derivative.
struct Gelu {
    float value, slope;
};
DEVICE Gelu gelu(float x) {
    const float square = x * x, tanh = hyperbolic_tangent(x * (0.7978845608f + 0.0356774081f * square));
    const float half = 0.5f * (1.f + tanh);
    return {x * half, half + 0.5f * x * (1.f - tanh * tanh) * (0.7978845608f + 0.1070322243f * square)};
}

DEVICE void load_units(Block block, const float* packed, int first, float* w) {
    constexpr int across = EP / 4;
    for (int i = block.rank; i < 2 * UNITS * across; i += Block::size) {
        const int row = i / across, column = 4 * (i % across), matrix = row / UNITS;
        set_four(w + row * LW + column, four(packed + (matrix * HIDDEN + first + row % UNITS) * EP + column));
    }
}

// out[t][e] += what the units make of a. Ends with a barrier.
DEVICE void mlp_forward(Block block, const float* packed, const float* a, float* w, float* hidden, float* out) {
    for (int first = 0; first < HIDDEN; first += UNITS) {
        load_units(block, packed, first, w);
        block.sync();
        project<EP, UNITS>(block, a, LX, w, LW, hidden, LS, [](int, int) { return 0.f; });
        block.sync();
        for (int i = block.rank; i < T * UNITS; i += Block::size) {
            float& x = hidden[i / UNITS * LS + i % UNITS];
            x = gelu(x).value;
        }
        block.sync();
        unproject<UNITS, EP>(block, true, hidden, LS, w + UNITS * LW, LW, out, LX);
        block.sync();
    }
}

// From dz, the gradient of the output: adds that of the input to `da`, and to the gradients of the weights. Ends with a
// barrier.
DEVICE void mlp_backward(Block block, const float* packed, const float* a, const float* dz, float* w, float* hidden,
                         float* d_hidden, float* da, float* gradient, bool first_sequence) {
    for (int first = 0; first < HIDDEN; first += UNITS) {
        load_units(block, packed, first, w);
        block.sync();
        project<EP, UNITS>(block, a, LX, w, LW, hidden, LS, [](int, int) { return 0.f; });
        project<EP, UNITS>(block, dz, LX, w + UNITS * LW, LW, d_hidden, LS, [](int, int) { return 0.f; });
        block.sync();
        for (int i = block.rank; i < T * UNITS; i += Block::size) {
            const int at = i / UNITS * LS + i % UNITS;
            const Gelu here = gelu(hidden[at]);
            hidden[at] = here.value, d_hidden[at] *= here.slope;
        }
        block.sync();
        unproject<UNITS, EP>(block, true, d_hidden, LS, w, LW, da, LX);
        weight_gradient<UNITS, EP>(block, d_hidden, LS, a, LX, gradient + first * EP, first_sequence);
        weight_gradient<UNITS, EP>(block, hidden, LS, dz, LX, gradient + (HIDDEN + first) * EP, first_sequence);
        block.sync();
    }
}
#endif
