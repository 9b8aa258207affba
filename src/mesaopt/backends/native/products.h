// Matrix products from register tiles: TILE_M x TILE_N accumulators stay in registers while the inner index runs. Blocks of BLOCK
// row tiles and of INNER inner steps keep both operands in the first-level cache.
#pragma once
#include "vectors.h"

constexpr int BLOCK = 4, INNER = 64;

template <int S> struct Size { static constexpr int value = S; };

// Cuts 0..LENGTH into tiles of at most LARGEST whose sizes differ by at most one.
template <int LENGTH, int LARGEST> struct Tiling {
    static constexpr int count = (LENGTH + LARGEST - 1) / LARGEST, size = LENGTH / count, larger = LENGTH % count;
    static INLINE int start(int tile) { return tile * size + min(tile, larger); }
    static INLINE int holding(int i) { return i < larger * (size + 1) ? i / (size + 1) : (i - larger) / size; }

    template <class F> static INLINE void each(int from, int to, F f) {
        int tile = from;
        if constexpr (larger > 0)
            for (; tile < min(to, larger); tile++) f(Size<size + 1>{}, start(tile));
        for (; tile < to; tile++) f(Size<size>{}, start(tile));
    }
    template <class F> static INLINE void all(F f) { each(0, count, f); }
    // Calls f(from, to) for blocks of BLOCK tiles.
    template <class F> static INLINE void blocks(F f) {
        for (int from = 0; from < count; from += BLOCK) f(from, min(from + BLOCK, count));
    }
};

// C[i][j] += sum_k A[i][k] B[k][j]; strides in elements; B is vectors, or floats that all lanes share.
template <int ROWS, int COLS> struct Tile {
    V c[ROWS][COLS] = {};

    template <class B>
    INLINE void add(int inner, const V* a, int a_row, int a_inner, const B* b, int b_inner, int b_col) {
        for (int k = 0; k < inner; k++) {
            V left[ROWS];
            UNROLL for (int i = 0; i < ROWS; i++) {
                left[i] = a[i * a_row + k * a_inner];
                HOLD(left[i]);
            }
            UNROLL for (int j = 0; j < COLS; j++) {
                V right = fill(b[k * b_inner + j * b_col]);
                HOLD(right);
                UNROLL for (int i = 0; i < ROWS; i++) c[i][j] += left[i] * right;
            }
        }
    }
    INLINE void load(const V* from, int row) {
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLS; j++) c[i][j] = from[i * row + j];
    }
    // What is added last is rounded once: a residual stream is larger than each of the many terms that layers add to it.
    INLINE void plus(const V* other, int row) {
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLS; j++) c[i][j] += other[i * row + j];
    }
    // to[i][j] += sum over lanes
    INLINE void add_lane_sums(float* to, int row) const {
        UNROLL for (int i = 0; i < ROWS; i++) {
            if constexpr (COLS == 4) {
                Q sums;
                std::memcpy(&sums, to + i * row, sizeof sums);
                sums += lane_sums(c[i][0], c[i][1], c[i][2], c[i][3]);
                std::memcpy(to + i * row, &sums, sizeof sums);
            } else {
                UNROLL for (int j = 0; j < COLS; j++) to[i * row + j] += lane_sum(c[i][j]);
            }
        }
    }
    INLINE void store(V* to, int row) const {
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLS; j++) to[i * row + j] = c[i][j];
    }
};

enum Into { SET, ADD };

// ---- products with weights --------------------------------------------------------------------------------------------------

// C (T x COLS) = or += sum over chunks of A_c (T x K) W_c (K x COLS).
template <int K, int COLS>
static void product(Into into, int chunks, const V* a, int a_row, int a_chunk, const float* w, int w_row, int w_chunk, V* c, int c_row) {
    Tiling<T, TILE_M>::all([=](auto rows, int m) INLINE_LAMBDA {
        Tiling<COLS, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Tile<rows.value, cols.value> tile;
            for (int i = 0; i < chunks; i++) tile.add(K, a + i * a_chunk + m * a_row, a_row, 1, w + i * w_chunk + n, w_row, 1);
            if (into == ADD) tile.plus(c + m * c_row + n, c_row);
            tile.store(c + m * c_row + n, c_row);
        });
    });
}

// dW (ROWS x COLS) += X^T Y with X (T x ROWS), Y (T x COLS).
template <int ROWS, int COLS> static void weight_gradient(const V* x, int x_row, const V* y, int y_row, float* dw, int dw_row) {
    for (int t = 0; t < T; t += INNER) Tiling<ROWS, TILE_M>::blocks([=](int from, int to) INLINE_LAMBDA {
        Tiling<COLS, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Tiling<ROWS, TILE_M>::each(from, to, [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                tile.add(min(T - t, INNER), x + t * x_row + m, 1, x_row, y + t * y_row + n, y_row, 1);
                tile.add_lane_sums(dw + m * dw_row + n, dw_row);
            });
        });
    });
}

// ---- products along time ----------------------------------------------------------------------------------------------------

// S = tril(A B^T), or S -= tril(A B^T); zeros between the diagonal and the end of its row tile.
static void scores(const V* a, const V* b, V* s, bool subtract = false) {
    using Rows = Tiling<T, TILE_M>;
    using Cols = Tiling<T, TILE_N>;
    Rows::blocks([=](int from, int to) INLINE_LAMBDA {
        Cols::each(0, Cols::holding(Rows::start(to) - 1) + 1, [=](auto cols, int n) INLINE_LAMBDA {
            Rows::each(max(from, Rows::holding(n)), to, [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                tile.add(D, a + m * D, D, 1, b + n * D, 1, D);
                V* to = s + m * T + n;
                if (subtract) UNROLL for (int i = 0; i < rows.value; i++) UNROLL for (int j = 0; j < cols.value; j++)
                    tile.c[i][j] = to[i * T + j] - tile.c[i][j];
                tile.store(to, T);
            });
        });
    });
    Rows::all([=](auto rows, int m) INLINE_LAMBDA {
        for (int i = 0; i < rows.value; i++) for (int n = m + i + 1; n < m + rows.value; n++) s[(m + i) * T + n] = V{};
    });
}

// Y = S X: every position sums over its past.
static void attend(const V* s, const V* x, V* y) {
    using Rows = Tiling<T, TILE_M>;
    for (int k = 0; k < T; k += INNER) Rows::blocks([=](int from, int to) INLINE_LAMBDA {
        Tiling<D, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Rows::each(max(from, Rows::holding(k)), to, [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                if (k > 0) tile.load(y + m * D + n, D);
                tile.add(min(m + rows.value - k, INNER), s + m * T + k, T, 1, x + k * D + n, D, 1);
                tile.store(y + m * D + n, D);
            });
        });
    });
}

// Y = or += S^T X: every position sums over its future.
static void attend_back(Into into, const V* s, const V* x, V* y) {
    using Rows = Tiling<T, TILE_M>;
    for (int i = 0; i < T * D && into == SET; i++) y[i] = V{};
    for (int k = 0; k < T; k += INNER) Rows::blocks([=](int from, int to) INLINE_LAMBDA {
        Tiling<D, TILE_N>::all([=](auto cols, int n) INLINE_LAMBDA {
            Rows::each(from, min(to, Rows::holding(min(k + INNER, T) - 1) + 1), [=](auto rows, int m) INLINE_LAMBDA {
                Tile<rows.value, cols.value> tile;
                const int first = max(k, m);
                tile.load(y + m * D + n, D);
                tile.add(min(k + INNER, T) - first, s + first * T + m, 1, T, x + first * D + n, D, 1);
                tile.store(y + m * D + n, D);
            });
        });
    });
}
