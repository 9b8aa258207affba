// What attention does between its products: causal scores, softmax, the mesa-layer's recursion, and vectors of norm 1.
#pragma once
#include "products.h"

// ---- causal products --------------------------------------------------------------------------------------------------------

// Scores are made in square tiles of the lower triangle and zeros above its diagonal; the tiles beyond it are never touched,
// and zero.
constexpr int SQUARE = TP % 5 == 0 ? 5 : 4, TRIANGLE = (TP / SQUARE) * (TP / SQUARE + 1) / 2;

struct Scores {
    const float *queries, *keys;  // [T][DP], rows apart by
    int query_row, key_row;
    float* out;  // [T][T]
    float scale;
    bool subtract;
};

DEVICE void score_tile(int tile, const Scores& s) {
    int row = 0;
    while ((row + 1) * (row + 2) / 2 <= tile) row++;
    const int column = tile - row * (row + 1) / 2;
    float c[SQUARE][SQUARE];
    clear(c);
    add_rows_by_rows<DP>(c, s.queries + SQUARE * row * s.query_row, s.query_row, s.keys + SQUARE * column * s.key_row, s.key_row);
    UNROLL for (int i = 0; i < SQUARE; i++) UNROLL for (int j = 0; j < SQUARE; j++) {
        const int t = SQUARE * row + i, past = SQUARE * column + j;
        float* to = s.out + t * LS + past;
        const float value = past <= t ? s.scale * c[i][j] : 0.f;
        *to = s.subtract ? *to - value : value;
    }
}

DEVICE void scores(Block block, const Scores& s) {
    for (int i = block.rank; i < TRIANGLE; i += Block::size) score_tile(i, s);
}
// Of two at the same time; no warp has tiles of both.
DEVICE void scores(Block block, const Scores& s, const Scores& more) {
    constexpr int half = parts(TRIANGLE, Warp::size) * Warp::size;
    for (int i = block.rank; i < 2 * half; i += Block::size)
        if (i < TRIANGLE) score_tile(i, s);
        else if (i >= half && i < half + TRIANGLE) score_tile(i - half, more);
}

// Tiles of a head's [T][DP] arrays.
using HeadTiles = Tiles<TP, DP, 2, 4>;
using HeadTile = float[HeadTiles::rows][HeadTiles::columns];

// out[t] += sum over past <= t of weights[t][past] x[past].
DEVICE void add_past(HeadTile& c, int row, int column, const float* weights, const float* x, int x_row) {
    const int first = row * HeadTiles::rows;
    add_rows_by_columns(c, weights + first * LS, LS, x + column * HeadTiles::columns, x_row, up4(first + HeadTiles::rows));
}
// out[t] += sign * sum over later >= t of weights[later][t] x[later].
DEVICE void add_future(HeadTile& c, int row, int column, const float* weights, const float* x, int x_row, float sign = 1.f) {
    const int first = row * HeadTiles::rows;
    add_columns_by_columns(c, weights + first, LS, x + column * HeadTiles::columns, x_row, first, T, sign);
}
DEVICE void store(const HeadTile& c, int row, int column, float* out, int out_row) {
    float* to = out + row * HeadTiles::rows * out_row + column * HeadTiles::columns;
    UNROLL for (int i = 0; i < HeadTiles::rows; i++) UNROLL for (int j = 0; j < HeadTiles::columns; j += 4)
        set_four(to + i * out_row + j, {c[i][j], c[i][j + 1], c[i][j + 2], c[i][j + 3]});
}

// out = weights x, over the past.
DEVICE void attend(Block block, const float* weights, const float* x, int x_row, float* out, int out_row) {
    HeadTiles::each(block, [=](int row, int column, int) {
        HeadTile c;
        clear(c);
        add_past(c, row, column, weights, x, x_row);
        store(c, row, column, out, out_row);
    });
}

// ---- softmax ----------------------------------------------------------------------------------------------------------------

DEVICE float softmax_scale() { return 1.f / square_root((float)D); }

// A warp has a row at a time, a lane the columns that are its rank apart.
struct Row {
    static constexpr int each = parts(T, Warp::size);
    float x[each];

    DEVICE Row load(Warp warp, const float* from, int length, float beyond) {
        Row row;
        UNROLL for (int i = 0; i < each; i++) {
            const int column = warp.rank + i * Warp::size;
            row.x[i] = column < length ? from[column] : beyond;
        }
        return row;
    }
    DEVICE void store(const Row& row, Warp warp, float* to, int length) {
        UNROLL for (int i = 0; i < each; i++) {
            const int column = warp.rank + i * Warp::size;
            if (column < length) to[column] = row.x[i];
        }
    }
};

// softmax of `length` scores; NaN comes through.
DEVICE Row softmax_row(Warp warp, const float* scores, int length) {
    Row p = Row::load(warp, scores, length, -3.4e38f);
    float largest = p.x[0], sum = 0;
    UNROLL for (int i = 1; i < Row::each; i++) largest = p.x[i] > largest ? p.x[i] : largest;
    largest = warp.largest(largest);
    UNROLL for (int i = 0; i < Row::each; i++) {
        p.x[i] = warp.rank + i * Warp::size < length ? exponential(p.x[i] - largest) : 0.f;
        sum += p.x[i];
    }
    const float inverse = 1.f / warp.sum(sum);
    UNROLL for (int i = 0; i < Row::each; i++) p.x[i] *= inverse;
    return p;
}

DEVICE void softmax(Block block, float* scores) {
    const Warp warp = warp_of(block);
    for (int t = warp_index(block); t < T; t += WARPS) {
        float* row = scores + t * LS;
        Row::store(softmax_row(warp, row, t + 1), warp, row, t + 1);
    }
}

// Scores become attention weights, and the gradients of those in `gradients` the gradients of the scores before they were
// scaled.
DEVICE void softmax_back(Block block, float* scores, float* gradients) {
    const Warp warp = warp_of(block);
    for (int t = warp_index(block); t < T; t += WARPS) {
        float *s = scores + t * LS, *g = gradients + t * LS, mean = 0;
        const Row p = softmax_row(warp, s, t + 1);
        Row d = Row::load(warp, g, t + 1, 0.f);
        UNROLL for (int i = 0; i < Row::each; i++) mean += p.x[i] * d.x[i];
        mean = warp.sum(mean);
        UNROLL for (int i = 0; i < Row::each; i++) d.x[i] = p.x[i] * (d.x[i] - mean) * softmax_scale();
        Row::store(p, warp, s, t + 1);
        Row::store(d, warp, g, t + 1);
    }
}

// ---- the mesa-layer ---------------------------------------------------------------------------------------------------------

// x_t = R_t x_t in place, with R_t = (sum_{t' <= t} k k^T + I / lam)^-1 by Sherman and Morrison: R_t = R_{t-1} - u u^T / (1 +
// k.u), u = R_{t-1} k_t. One warp: a lane has rows of R in registers, as many as DP needs, and `room` tells the others of u.
DEVICE void recursion(Warp warp, const float* k, int k_row, float* x, int x_row, float lam, float* room) {
    constexpr int each = parts(DP, Warp::size);
    float r[each][DP];
    int at[each];  // the last row again where there are more lanes than rows
    UNROLL for (int i = 0; i < each; i++) {
        at[i] = smaller(warp.rank + i * Warp::size, DP - 1);
        UNROLL for (int j = 0; j < DP; j++) r[i][j] = at[i] == j ? lam : 0.f;
    }
    float key[DP], right[DP];
    load_row(key, k);
    load_row(right, x);
    for (int t = 0; t < T; t++, k += k_row, x += x_row) {
        float u[DP], own[each], answer[each], scale[2] = {1.f, 0.f};
        UNROLL for (int i = 0; i < each; i++) {
            float sum[2] = {};  // a single one would wait for every addition
            UNROLL for (int j = 0; j < DP; j++) sum[j % 2] += r[i][j] * key[j];
            own[i] = sum[0] + sum[1];
            if (warp.rank + i * Warp::size < DP) room[at[i]] = own[i];
        }
        warp.sync();
        load_row(u, room);
        UNROLL for (int j = 0; j < DP; j++) scale[j % 2] += u[j] * key[j];
        if (t + 1 < T) load_row(key, k + k_row);  // long before it is needed: it may lie in the device's memory
        const float inverse = 1.f / (scale[0] + scale[1]);
        UNROLL for (int i = 0; i < each; i++) {
            const float step = own[i] * inverse;
            float sum[2] = {};
            UNROLL for (int j = 0; j < DP; j++) {
                r[i][j] -= step * u[j];
                sum[j % 2] += r[i][j] * right[j];
            }
            answer[i] = sum[0] + sum[1];
        }
        if (t + 1 < T) load_row(right, x + x_row);
        warp.sync();  // all have read u
        UNROLL for (int i = 0; i < each; i++)
            if (warp.rank + i * Warp::size < DP) x[at[i]] = answer[i];
    }
}

// ---- vectors of norm 1 ------------------------------------------------------------------------------------------------------

constexpr float SMALLEST = 1e-16f;  // added to norms, as PyTorch's model does

constexpr bool is_unit(int which) { return NORMALISE >> which & 1; }

// Divides queries, keys or values (which: 0, 1, 2) by their norms, and keeps both: unit [3][T][DP], norms [3][T].
DEVICE void make_unit(Block block, float* qkv, float* unit, float* norms) {
    for (int i = block.rank; i < 3 * T; i += Block::size) {
        const int which = i / T, t = i % T;
        if (!is_unit(which)) continue;
        float *x = qkv + t * LQ + which * DP, sum = 0;
        for (int d = 0; d < D; d++) sum += x[d] * x[d];
        norms[i] = square_root(sum);
        const float inverse = 1.f / (norms[i] + SMALLEST);
        for (int d = 0; d < DP; d++) unit[i * DP + d] = x[d] *= inverse;
    }
}

// Gradients of y = x / (|x| + SMALLEST) become those of x; where x = 0 the norm has the gradient 0.
DEVICE void make_unit_back(Block block, float* gradients, const float* unit, const float* norms) {
    for (int i = block.rank; i < 3 * T; i += Block::size) {
        const int which = i / T, t = i % T;
        if (!is_unit(which)) continue;
        float *g = gradients + t * LQ + which * DP, along = 0;
        const float *y = unit + i * DP, norm = norms[i], inverse = 1.f / (norm + SMALLEST);
        for (int d = 0; d < D; d++) along += y[d] * g[d];
        along = norm == 0 ? 0.f : along * ((norm + SMALLEST) / norm);
        for (int d = 0; d < D; d++) g[d] = (g[d] - y[d] * along) * inverse;
    }
}
