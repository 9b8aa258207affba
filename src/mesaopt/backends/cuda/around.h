// What stands around the step: weights into the kernel's own order, positions, partial sums into gradients, and AdamW. Every
// function is the work of one thread of a launch, one of `count`.
#pragma once
#include "step.h"

// Where weights and gradients of a model lie in vectors that hold parameter after parameter, and in each seed after seed
// (training/optimizer.py): of number i of the packed order that of seed 0, or -1 for padding, and how far apart seeds are.
// After the model's come those of the positions, heads * PACKED_POSITIONS.
struct Layout {
    int depth, heads, seeds, groups;
    const int *at, *apart;
};
DEVICE int numbers_of(const Layout& layout) { return packed_model(layout.depth, layout.heads); }
DEVICE int positions_of(const Layout& layout) { return layout.heads * PACKED_POSITIONS; }

struct Pack {
    Layout layout;
    const float* values;
    float *packed, *positions;  // (seed, packed_model), (seed, heads, 2 DP, PP)
};
DEVICE void pack(int rank, int count, const Pack& p) {
    const int model = numbers_of(p.layout), all = model + positions_of(p.layout);
    for (long long i = rank; i < (long long)p.layout.seeds * all; i += count) {
        const int seed = i / all, number = i % all, at = p.layout.at[number];
        const float value = at < 0 ? 0.f : p.values[at + (long long)seed * p.layout.apart[number]];
        if (number < model) p.packed[(long long)seed * model + number] = value;
        else p.positions[(long long)seed * (all - model) + number - model] = value;
    }
}

// table[seed][head][t][n] = sum over p of encoding[t][p] positions[seed][head][n][p].
struct Table {
    int heads, seeds;
    const float *encoding, *positions;  // [T][D_PE], (seed, heads, 2 DP, PP)
    float* table;                       // (seed, heads, TABLE)
};
DEVICE void make_table(int rank, int count, const Table& p) {
    for (int i = rank; i < p.seeds * p.heads * TABLE; i += count) {
        const int head = i / TABLE, t = i % TABLE / (2 * DP), n = i % (2 * DP);
        const float *weights = p.positions + ((long long)head * 2 * DP + n) * PP, *encoding = p.encoding + t * D_PE;
        float sum = 0;
        for (int c = 0; c < D_PE; c++) sum += weights[c] * encoding[c];
        p.table[i] = sum;
    }
}

// Partial sums of all groups, always in the same order: four sums side by side, for none to wait.
DEVICE float sum_of(const float* partials, int groups, long long apart) {
    float sums[4] = {};
    for (int group = 0; group < groups; group++) sums[group % 4] += partials[group * apart];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

struct Reduce {
    Layout layout;
    int sequences;  // of one seed
    const float *partials, *table_partials;
    const double* partial_losses;  // (seed, group)
    float *gradients, *table_gradient, *losses;  // as `Layout` says; (seed, heads, TABLE); (seed)
};
DEVICE void reduce(int rank, int count, const Reduce& p) {
    const int model = numbers_of(p.layout), table = D_PE > 0 ? p.layout.heads * TABLE : 0, all = model + table;
    for (long long i = rank; i < (long long)p.layout.seeds * all; i += count) {
        const int seed = i / all, number = i % all;
        const long long first = (long long)seed * p.layout.groups;
        if (number >= model) {
            const float* partials = p.table_partials + first * table + number - model;
            p.table_gradient[(long long)seed * table + number - model] = sum_of(partials, p.layout.groups, table);
        } else if (const int at = p.layout.at[number]; at >= 0) {
            const float* partials = p.partials + first * model + number;
            p.gradients[at + (long long)seed * p.layout.apart[number]] = sum_of(partials, p.layout.groups, model);
        }
    }
}
DEVICE void reduce_losses(int rank, int count, const Reduce& p) {
    for (int seed = rank; seed < p.layout.seeds; seed += count) {
        double sum = 0;
        for (int group = 0; group < p.layout.groups; group++) sum += p.partial_losses[seed * p.layout.groups + group];
        p.losses[seed] = (float)(sum / ((double)p.sequences * T));
    }
}

// Gradients of what W_Q and W_K of the first layer have for positions.
struct PositionGradients {
    Layout layout;
    const float *encoding, *table_gradient;
    float* gradients;
};
constexpr int ROW = larger(PP, 1);
DEVICE void position_gradients(int rank, int count, const PositionGradients& p) {
    const int model = numbers_of(p.layout), all = positions_of(p.layout);
    for (int i = rank; i < p.layout.seeds * all; i += count) {
        const int seed = i / all, number = i % all, at = p.layout.at[model + number];
        if (at < 0) continue;
        const int head = number / (2 * DP * ROW), n = number / ROW % (2 * DP), c = number % ROW;
        const float* table = p.table_gradient + ((long long)seed * p.layout.heads + head) * TABLE + n;
        float sum = 0;
        for (int t = 0; t < T; t++) sum += table[t * 2 * DP] * p.encoding[t * D_PE + c];
        p.gradients[at + (long long)seed * p.layout.apart[model + number]] = sum;
    }
}

// The step of training/step.py and training/optimizer.py: gradients clipped to [-bound, bound], then AdamW.
struct Optimise {
    int count;
    float bound, new_1, beta_2, new_2, epsilon;  // new: 1 - beta, which single precision must not subtract
    const double* factors;  // of decay, size of the step, correction of the squares
    float *values, *gradients, *mean, *square;
};
DEVICE void optimise(int rank, int count, const Optimise& p) {
    const float decay = (float)p.factors[0], size = (float)p.factors[1], correction = (float)p.factors[2];
    for (int i = rank; i < p.count; i += count) {
        const float found = p.gradients[i], g = found > p.bound ? p.bound : found < -p.bound ? -p.bound : found;
        const float mean = p.mean[i] + p.new_1 * (g - p.mean[i]), square = p.beta_2 * p.square[i] + p.new_2 * (g * g);
        p.gradients[i] = g, p.mean[i] = mean, p.square[i] = square;
        p.values[i] = p.values[i] * decay + mean * size / (square_root(square) / correction + p.epsilon);
    }
}
