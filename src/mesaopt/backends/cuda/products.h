// Matrix products of a block: every thread makes tiles whose sums stay in its registers.
//
// Three forms, by where the inner index k lies: A[i][k] B[j][k] (projections, scores), A[i][k] B[k][j] (what is weighted by
// scores, gradients of inputs) and A[k][i] B[k][j] (gradients of weights, sums over later positions). All read four numbers at
// once.
#pragma once
#include "platform.h"

struct Tiling {
    int rows, columns;  // of a tile
};
constexpr int rounds(int rows, int columns, Tiling tile) { return parts(rows / tile.rows * (columns / tile.columns), THREADS); }
// Of one step of the inner index, in multiply-adds: a load is worth about one.
constexpr int cost(int rows, int columns, Tiling tile) {
    return rounds(rows, columns, tile) * (tile.rows * tile.columns + tile.rows + tile.columns);
}
// The fastest tile for so many outputs whose sides are multiples of the steps; what the threads have to do should come out
// even.
constexpr Tiling best_tiling(int rows, int columns, int row_step, int column_step) {
    Tiling best = {row_step, column_step};
    for (int i = row_step; i <= 8; i += row_step) for (int j = column_step; j <= 8; j += column_step) {
        const bool whole = rows % i == 0 && columns % j == 0 && i * j <= 32;
        if (whole && cost(rows, columns, {i, j}) < cost(rows, columns, best)) best = {i, j};
    }
    return best;
}

// ROWS x COLUMNS outputs in tiles; f(row group, column group, round) of every tile of this thread.
template <int ROWS, int COLUMNS, int ROW_STEP, int COLUMN_STEP> struct Tiles {
    static constexpr Tiling tile = best_tiling(ROWS, COLUMNS, ROW_STEP, COLUMN_STEP);
    static constexpr int rows = tile.rows, columns = tile.columns, across = COLUMNS / columns, count = ROWS / rows * across;
    static constexpr int rounds = parts(count, Block::size);
    static_assert(ROWS % rows == 0 && COLUMNS % columns == 0, "tiles have no edges");

    template <class F> DEVICE void each(Block block, F f) {
        UNROLL for (int round = 0; round < rounds; round++) {
            const int i = block.rank + round * Block::size;
            if (i < count) f(i / across, i % across, round);
        }
    }
};

template <int ROWS, int COLUMNS> DEVICE void clear(float (&c)[ROWS][COLUMNS]) {
    UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLUMNS; j++) c[i][j] = 0;
}

// SIZE numbers of a row, SIZE a multiple of two.
template <int SIZE> DEVICE void load_row(float (&x)[SIZE], const float* from) {
    if constexpr (SIZE % 4 == 0) {
        UNROLL for (int i = 0; i < SIZE; i += 4) {
            const Four v = four(from + i);
            x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
        }
    } else {
        UNROLL for (int i = 0; i < SIZE; i += 2) {
            const Two v = two(from + i);
            x[i] = v.x, x[i + 1] = v.y;
        }
    }
}

// c[i][j] += sum over k < K of a[i][k] b[j][k].
template <int K, int ROWS, int COLUMNS>
DEVICE void add_rows_by_rows(float (&c)[ROWS][COLUMNS], const float* a, int a_row, const float* b, int b_row) {
    UNROLL_SOME for (int k = 0; k < K; k += 4) {
        Four x[ROWS], y[COLUMNS];
        UNROLL for (int i = 0; i < ROWS; i++) x[i] = four(a + i * a_row + k);
        UNROLL for (int j = 0; j < COLUMNS; j++) y[j] = four(b + j * b_row + k);
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLUMNS; j++) {
            c[i][j] += x[i].x * y[j].x;  // four fused multiply-adds: one sum of four products would cost a fifth operation
            c[i][j] += x[i].y * y[j].y;
            c[i][j] += x[i].z * y[j].z;
            c[i][j] += x[i].w * y[j].w;
        }
    }
}

// c[i][j] += sum over k < end of a[i][k] b[k][j]; `end` is a multiple of four.
template <int ROWS, int COLUMNS>
DEVICE void add_rows_by_columns(float (&c)[ROWS][COLUMNS], const float* a, int a_row, const float* b, int b_row, int end) {
    for (int k = 0; k < end; k += 4) {
        float x[ROWS][4];
        UNROLL for (int i = 0; i < ROWS; i++) load_row(x[i], a + i * a_row + k);
        UNROLL for (int step = 0; step < 4; step++) {
            float y[COLUMNS];
            load_row(y, b + (k + step) * b_row);
            UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLUMNS; j++) c[i][j] += x[i][step] * y[j];
        }
    }
}

// c[i][j] += sign * sum over start <= k < end of a[k][i] b[k][j].
template <int ROWS, int COLUMNS>
DEVICE void add_columns_by_columns(float (&c)[ROWS][COLUMNS], const float* a, int a_row, const float* b, int b_row, int start,
                                   int end, float sign = 1.f) {
    UNROLL_SOME for (int k = start; k < end; k++) {
        float x[ROWS], y[COLUMNS];
        load_row(x, a + k * a_row);
        load_row(y, b + k * b_row);
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLUMNS; j++) c[i][j] += sign * x[i] * y[j];
    }
}

// ---- products with weights --------------------------------------------------------------------------------------------------

// out[t][n] = sum over e of x[t][e] w[n][e], + add(t, n). Lanes take neighbouring rows of w, which lie in different banks.
template <int K, int COLUMNS, class Add>
DEVICE void project(Block block, const float* x, int x_row, const float* w, int w_row, float* out, int out_row, Add add) {
    using Shape = Tiles<TP, COLUMNS, 1, 1>;
    Shape::each(block, [=](int row, int column, int) {
        float c[Shape::rows][Shape::columns];
        clear(c);
        add_rows_by_rows<K>(c, x + row * Shape::rows * x_row, x_row, w + column * w_row, Shape::across * w_row);
        UNROLL for (int i = 0; i < Shape::rows; i++) UNROLL for (int j = 0; j < Shape::columns; j++) {
            const int t = row * Shape::rows + i, n = column + Shape::across * j;
            out[t * out_row + n] = c[i][j] + add(t, n);
        }
    });
}

DEVICE void add_or_set(float* to, float value, bool first) { *to = first ? value : *to + value; }
DEVICE void add_or_set(float* to, Four value, bool first) {
    Four before = {0, 0, 0, 0};
    if (!first) before = four(to);
    set_four(to, {before.x + value.x, before.y + value.y, before.z + value.z, before.w + value.w});
}

// out[t][e] = sum over n < K of x[t][n] w[n][e], or with `adds` +=: of the sum, which is then rounded once with what is larger.
template <int K, int COLUMNS>
DEVICE void unproject(Block block, bool adds, const float* x, int x_row, const float* w, int w_row, float* out, int out_row) {
    using Shape = Tiles<TP, COLUMNS, 1, 4>;
    Shape::each(block, [=](int row, int column, int) {
        float c[Shape::rows][Shape::columns];
        float* to = out + row * Shape::rows * out_row + column * Shape::columns;
        clear(c);
        add_rows_by_columns(c, x + row * Shape::rows * x_row, x_row, w + column * Shape::columns, w_row, K);
        UNROLL for (int i = 0; i < Shape::rows; i++) UNROLL for (int j = 0; j < Shape::columns; j += 4)
            add_or_set(to + i * out_row + j, {c[i][j], c[i][j + 1], c[i][j + 2], c[i][j + 3]}, !adds);
    });
}

// gradient[i][j] (COLUMNS apart) = or, unless `first`, += sum over t of x[t][i] y[t][j].
template <int ROWS, int COLUMNS>
DEVICE void weight_gradient(Block block, const float* x, int x_row, const float* y, int y_row, float* gradient, bool first) {
    using Shape = Tiles<ROWS, COLUMNS, 2, 4>;
    Shape::each(block, [=](int row, int column, int) {
        float c[Shape::rows][Shape::columns];
        clear(c);
        add_columns_by_columns(c, x + row * Shape::rows, x_row, y + column * Shape::columns, y_row, 0, T);
        UNROLL for (int i = 0; i < Shape::rows; i++) UNROLL for (int j = 0; j < Shape::columns; j += 4) {
            float* to = gradient + (row * Shape::rows + i) * COLUMNS + column * Shape::columns + j;
            add_or_set(to, {c[i][j], c[i][j + 1], c[i][j + 2], c[i][j + 3]}, first);
        }
    });
}
