// Learning the scalars of Proposition 2: sums over sequences, positions and channels of the products of any two of the predictions
// that powers of A lead to and of the target, and from them loss and gradient. Predictions in single precision, sums in double:
// powers of A are nearly dependent.
//
// As in kernel.cpp one vector lane is one sequence. Arrays are row-major: observations (batch, T + 1, N), inputs (batch, T, D),
// values (batch, T, N). T, D, N, LAG and POWERS (one more than the highest power) are set with -D.
#include <cstdlib>

#include "products.h"

constexpr int ROWS = POWERS + 1, PAIRS = ROWS * (ROWS + 1) / 2, COLUMNS = 4;

typedef double Wide __attribute__((vector_size(8 * LANES)));

static INLINE Wide wide(V v) { return __builtin_convertvector(v, Wide); }
static INLINE V inverse_root(V x) { return 1.f / square_root(x); }

// The `n` numbers of each of `count` sequences; zeros in the other lanes.
static void gather(const float* from, int count, int n, V* to) {
    float* lanes = (float*)to;
    if (count < LANES) std::memset(lanes, 0, n * sizeof(V));
    for (int l = 0; l < count; l++) for (int i = 0; i < n; i++) lanes[i * LANES + l] = from[(int64_t)l * n + i];
}

// Adds the products of all pairs of rows, of one position.
static void add_pairs(const V (*rows)[N], Wide* sums) {
    Wide x[ROWS][N];
    for (int i = 0; i < ROWS; i++) for (int n = 0; n < N; n++) x[i][n] = wide(rows[i][n]);
    for (int i = 0; i < ROWS; i++) for (int j = 0; j <= i; j++) {
        Wide sum = *sums;
        for (int n = 0; n < N; n++) sum += x[i][n] * x[j][n];
        *sums++ = sum;
    }
}

// For inputs as wide as the values: S S^T and sum y x^T as matrices, side by side, which grow by a pair at every position.
static void by_vectors(const V* x, const V* y, const V* targets, float inverse_lam, Wide* sums) {
    V matrix[D][D + N] = {};
    for (int t = 0; t < T; t++) {
        if (t > LAG) {
            const V *key = x + (t - LAG - 1) * D, *value = y + (t - LAG) * N;
            for (int i = 0; i < D; i++) {
                for (int j = 0; j < D; j++) matrix[i][j] += key[i] * key[j];
                for (int n = 0; n < N; n++) matrix[i][D + n] += key[i] * value[n];
            }
        }
        V square = {}, power[D], rows[ROWS][N];
        for (int i = 0; i < D; i++) for (int j = 0; j < D; j++) {
            const V entry = matrix[i][j] + (i == j ? inverse_lam : 0.f);
            square += entry * entry;
        }
        const V inverse = inverse_root(square);
        for (int i = 0; i < D; i++) power[i] = x[t * D + i] * inverse;
        for (int p = 0; p < POWERS; p++) {
            V out[D + N] = {};
            for (int i = 0; i < D; i++) for (int j = 0; j < D + N; j++) out[j] += matrix[i][j] * power[i];
            for (int n = 0; n < N; n++) rows[p][n] = out[D + n];
            for (int i = 0; i < D; i++) power[i] = (out[i] + inverse_lam * power[i]) * inverse;
        }
        for (int n = 0; n < N; n++) rows[POWERS][n] = targets[t * N + n];
        add_pairs(rows, sums);
    }
}

// For wide inputs: of the powers applied to x_t only the products with the visible keys are kept. `gram` has room for TILE_M rows
// more than T; a block of positions shares what is read of it.
static void by_scores(const V* x, const V* y, const V* targets, float inverse_lam, V* gram, Wide* sums) {
    scores(x, x, gram);
    for (int i = 0; i < T; i++) for (int j = 0; j < i; j++) gram[j * T + i] = gram[i * T + j];
    V norm = fill(D * inverse_lam * inverse_lam);  // of the visible pairs: its square
    int seen = 0;
    for (int first = 0; first < T; first += COLUMNS) {
        const int columns = min(COLUMNS, T - first), most = max(first + columns - 1 - LAG, 0);
        V inverse[COLUMNS], power[T + TILE_M][COLUMNS] = {}, next[T + TILE_M][COLUMNS], predicted[POWERS][N][COLUMNS];
        int visible[COLUMNS];
        for (int c = 0; c < columns; c++) {
            visible[c] = max(first + c - LAG, 0);
            for (; seen < visible[c]; seen++) {
                const V *row = gram + seen * T, diagonal = row[seen];
                for (int j = 0; j < seen; j++) norm += 2.f * row[j] * row[j];
                norm += diagonal * (diagonal + 2.f * inverse_lam);
            }
            inverse[c] = inverse_root(norm);
            for (int i = 0; i < visible[c]; i++) power[i][c] = gram[i * T + first + c] * inverse[c];
        }
        for (int p = 0; p < POWERS; p++) {
            Tiling<N, TILE_M>::all([&](auto rows, int n) INLINE_LAMBDA {
                Tile<rows.value, COLUMNS> tile;
                tile.add(most, y + N + n, 1, N, power[0], COLUMNS, 1);
                tile.store(predicted[p][n], COLUMNS);
            });
            if (p + 1 == POWERS) break;
            for (int m = 0; m < most; m += TILE_M) {
                Tile<TILE_M, COLUMNS> tile;
                tile.add(most, gram + m * T, T, 1, power[0], COLUMNS, 1);
                tile.store(next[m], COLUMNS);
            }
            for (int c = 0; c < columns; c++) for (int i = 0; i < visible[c]; i++)
                power[i][c] = (next[i][c] + inverse_lam * power[i][c]) * inverse[c];
        }
        for (int c = 0; c < columns; c++) {
            V rows[ROWS][N];
            for (int p = 0; p < POWERS; p++) for (int n = 0; n < N; n++) rows[p][n] = predicted[p][n][c];
            for (int n = 0; n < N; n++) rows[POWERS][n] = targets[(first + c) * N + n];
            add_pairs(rows, sums);
        }
    }
}

// out (ROWS, ROWS). Without `inputs` or `values` they are the observations. False where there is no memory.
extern "C" bool mesaopt_moments(int batch, const float* observations, const float* inputs, const float* values, float inverse_lam,
                                double* out) {
    constexpr int LENGTH = (T + 1) * N;
    constexpr bool NARROW = D <= N;
    V* s = (V*)std::aligned_alloc(sizeof(V), sizeof(V) * (LENGTH + T * D + T * N + (NARROW ? 0 : (T + TILE_M) * T)));
    if (!s) return false;
    V *x = s + LENGTH, *y = x + T * D, *gram = y + T * N;
    if (!NARROW) std::memset((void*)gram, 0, sizeof(V) * (T + TILE_M) * T);
    Wide sums[PAIRS] = {};
    for (int b = 0; b < batch; b += LANES) {
        const int count = min(LANES, batch - b);
        gather(observations + (int64_t)b * LENGTH, count, LENGTH, s);
        if (inputs) gather(inputs + (int64_t)b * T * D, count, T * D, x);
        if (values) gather(values + (int64_t)b * T * N, count, T * N, y);
        const V *from = inputs ? x : s, *to = values ? y : s;
        if constexpr (NARROW) by_vectors(from, to, s + N, inverse_lam, sums);
        else by_scores(from, to, s + N, inverse_lam, gram, sums);
    }
    for (int i = 0, pair = 0; i < ROWS; i++) for (int j = 0; j <= i; j++, pair++) {
        double sum = 0;
        for (int l = 0; l < LANES; l++) sum += sums[pair][l];
        out[i * ROWS + j] = out[j * ROWS + i] = sum;
    }
    std::free(s);
    return true;
}

// Of one batch, whose sums are over `count` positions: the loss of x_K, returned, and its derivatives by the K alphas and K betas.
// The recursions of `preconditioning.iterate` on the coefficients of x_K as a polynomial in A, where A shifts by one: line 0 holds
// their values, the others their derivatives by each of the scalars.
extern "C" double mesaopt_scalars(bool published, const double* alphas, const double* betas, const double* sums, double count,
                                  double* by_alphas, double* by_betas) {
    constexpr int K = POWERS - 1, LINES = 1 + 2 * K;
    double x[LINES][POWERS] = {}, previous[LINES][POWERS] = {}, residual[LINES][POWERS] = {};
    x[0][0] = previous[0][0] = residual[0][0] = 1;
    for (int k = 0; k < K; k++) {
        const double alpha = alphas[k], beta = betas[k];
        double change[LINES][POWERS], shifted[LINES][POWERS] = {};
        for (int l = 0; l < LINES; l++) for (int i = 1; i < POWERS; i++) shifted[l][i] = (published ? residual : x)[l][i - 1];
        for (int l = 0; l < LINES; l++) for (int i = 0; i < POWERS; i++) {
            residual[l][i] = published ? residual[l][i] - alpha * shifted[l][i] : (l == 0 && i == 0) - shifted[l][i];
            change[l][i] = published ? residual[l][i] : alpha * residual[l][i];
        }
        for (int i = 0; i < POWERS; i++) {  // what the derivative by alpha_k has besides
            if (published) residual[1 + k][i] -= shifted[0][i];
            change[1 + k][i] += published ? -shifted[0][i] : residual[0][i];
        }
        for (int l = 0; l < LINES; l++) for (int i = 0; i < POWERS; i++) {
            const double momentum = x[l][i] - previous[l][i];
            previous[l][i] = x[l][i];
            x[l][i] += change[l][i] + beta * momentum;
            if (l == 0) change[0][i] = momentum;
        }
        for (int i = 0; i < POWERS; i++) x[1 + K + k][i] += change[0][i];
    }
    const double* linear = sums + POWERS * ROWS;
    double half = linear[POWERS] / 2, by_coefficient[POWERS];
    for (int i = 0; i < POWERS; i++) {
        double sum = 0;
        for (int j = 0; j < POWERS; j++) sum += sums[i * ROWS + j] * x[0][j];
        by_coefficient[i] = sum - linear[i];
        half += x[0][i] * (sum / 2 - linear[i]);
    }
    for (int k = 0; k < K; k++) {
        by_alphas[k] = by_betas[k] = 0;
        for (int i = 0; i < POWERS; i++) {
            by_alphas[k] += by_coefficient[i] * x[1 + k][i] / count;
            by_betas[k] += by_coefficient[i] * x[1 + K + k][i] / count;
        }
    }
    return half / count;
}
