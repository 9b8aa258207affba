// Batches of sequences drawn where they are used: the numbers of data/counted.py, up to rounding. A warp draws a sequence.
#pragma once
#include "platform.h"

#if MESAOPT_N_STATE > 0
constexpr int STATE = MESAOPT_N_STATE;

// ---- random numbers ---------------------------------------------------------------------------------------------------------

struct Words {
    unsigned x[4];
};
// Philox4x32-10 (Salmon and others, 2011): random words that are a function of a counter and a key.
DEVICE Words philox(Words counter, unsigned first_key, unsigned second_key) {
    for (int round = 0; round < 10; round++) {
        const unsigned *c = counter.x, high_0 = high_product(0xD2511F53u, c[0]), high_2 = high_product(0xCD9E8D57u, c[2]);
        counter = {{high_2 ^ c[1] ^ first_key, 0xCD9E8D57u * c[2], high_0 ^ c[3] ^ second_key, 0xD2511F53u * c[0]}};
        first_key += 0x9E3779B9u, second_key += 0xBB67AE85u;
    }
    return counter;
}

// What a word is for (data/counted.py, Section).
enum Section { OF_W, OF_EIGENVALUES, OF_C, OF_START, OF_NOISE, OF_OBSERVATION_NOISE };

// Where a sequence's words come from.
struct Source {
    unsigned key[2], sequence, step;
};
DEVICE Words words(const Source& source, Section section, int block) {
    return philox({{(unsigned)block, source.sequence, source.step, (unsigned)section}}, source.key[0], source.key[1]);
}
DEVICE float unit_interval(unsigned word) { return (word >> 8) * 0x1p-24f; }

// `count` numbers of U(0, 1).
DEVICE void draw_uniform(Warp warp, const Source& source, Section section, int count, float* to) {
    for (int i = 4 * warp.rank; i < count; i += 4 * Warp::size) {
        const Words found = words(source, section, i / 4);
        for (int j = 0; j < 4 && i + j < count; j++) to[i + j] = unit_interval(found.x[j]);
    }
}
// Two numbers of N(0, scale^2) by Box and Muller, from a pair of words.
DEVICE Two normal_pair(const unsigned* pair, float scale) {
    const float radius = scale * square_root(-2.f * logarithm(1.f - unit_interval(pair[0]))), turns = unit_interval(pair[1]);
    return {radius * cosine_of_turns(turns), radius * sine_of_turns(turns)};
}
// `count` numbers of N(0, scale^2).
DEVICE void draw_normal(Warp warp, const Source& source, Section section, int count, float scale, float* to) {
    for (int i = 4 * warp.rank; i < count; i += 4 * Warp::size) {
        const Words found = words(source, section, i / 4);
        float z[4];
        for (int j = 0; j < 4; j += 2) {
            const Two pair = normal_pair(found.x + j, scale);
            z[j] = pair.x, z[j + 1] = pair.y;
        }
        for (int j = 0; j < 4 && i + j < count; j++) to[i + j] = z[j];
    }
}

// ---- systems ----------------------------------------------------------------------------------------------------------------

// Q of w = Q R with a positive diagonal of R, in place: Gram and Schmidt, twice, which keeps Q orthogonal to rounding. A lane
// has columns in registers; `shared` [STATE] tells the others of one.
DEVICE void orthogonalise(Warp warp, float* w, float* shared) {
    constexpr int each = parts(STATE, Warp::size);
    float column[each][STATE];
    UNROLL for (int i = 0; i < each; i++) UNROLL for (int j = 0; j < STATE; j++)
        column[i][j] = w[j * STATE + smaller(warp.rank + i * Warp::size, STATE - 1)];
    for (int pass = 0; pass < 2; pass++) for (int pivot = 0; pivot < STATE; pivot++) {
        UNROLL for (int i = 0; i < each; i++) if (warp.rank + i * Warp::size == pivot) {
            float square = 0;
            UNROLL for (int j = 0; j < STATE; j++) square += column[i][j] * column[i][j];
            const float inverse = 1.f / square_root(square);
            UNROLL for (int j = 0; j < STATE; j++) shared[j] = column[i][j] *= inverse;
        }
        warp.sync();
        UNROLL for (int i = 0; i < each; i++) if (warp.rank + i * Warp::size > pivot) {
            float dot = 0;
            UNROLL for (int j = 0; j < STATE; j++) dot += column[i][j] * shared[j];
            UNROLL for (int j = 0; j < STATE; j++) column[i][j] -= dot * shared[j];
        }
        warp.sync();
    }
    UNROLL for (int i = 0; i < each; i++) if (warp.rank + i * Warp::size < STATE)
        UNROLL for (int j = 0; j < STATE; j++) w[j * STATE + warp.rank + i * Warp::size] = column[i][j];
    warp.sync();
}

// V diag(l) V^-1 in place of V in w, in double precision: X V = V diag(l) by elimination with row exchanges, lanes having
// columns of [V^T | (V diag(l))^T]. `room`: 2 STATE^2 + STATE numbers.
DEVICE void contract(Warp warp, float* w, const float* eigenvalues, double* room) {
    double* factors = room + 2 * STATE * STATE;
    for (int i = warp.rank; i < STATE * STATE; i += Warp::size) {
        const double v = w[i % STATE * STATE + i / STATE];  // of row i / STATE of V^T
        double* row = room + i / STATE * 2 * STATE;
        row[i % STATE] = v, row[STATE + i % STATE] = v * (double)eigenvalues[i / STATE];
    }
    warp.sync();
    for (int pivot = 0; pivot < STATE; pivot++) {
        int row = pivot;
        for (int i = pivot + 1; i < STATE; i++) {
            const double here = room[i * 2 * STATE + pivot], best = room[row * 2 * STATE + pivot];
            if (here * here > best * best) row = i;
        }
        warp.sync();
        for (int column = warp.rank; column < 2 * STATE; column += Warp::size) {
            const double x = room[row * 2 * STATE + column];
            room[row * 2 * STATE + column] = room[pivot * 2 * STATE + column], room[pivot * 2 * STATE + column] = x;
        }
        warp.sync();
        for (int i = warp.rank; i < STATE; i += Warp::size)
            factors[i] = room[i * 2 * STATE + pivot] / room[pivot * 2 * STATE + pivot];
        warp.sync();
        for (int column = warp.rank; column < 2 * STATE; column += Warp::size) for (int i = 0; i < STATE; i++)
            if (i != pivot) room[i * 2 * STATE + column] -= factors[i] * room[pivot * 2 * STATE + column];
        warp.sync();
    }
    for (int i = warp.rank; i < STATE * STATE; i += Warp::size)  // X^T, whose rows were divided by nothing yet
        w[i] = (float)(room[i % STATE * 2 * STATE + STATE + i / STATE] / room[i % STATE * 2 * STATE + i % STATE]);
    warp.sync();
}

// ---- sequences --------------------------------------------------------------------------------------------------------------

enum Matrix { ORTHOGONAL, CONTRACTING, TEACHER };

struct Draw {
    int matrix, hidden, pairs;             // Matrix; hidden units of the MLP, 0: none; pairs x, W x for states: 0 or 1
    int sequences, seeds;                  // sequences of a seed
    float start, bound, state_noise, obs_noise, c_scale;  // bound 0: none; c_scale 0: states are seen as they are
    float slowest, fastest;                               // contracting: eigenvalues lie between, one is the slowest
    const unsigned* keys;                                 // (seed, 2)
    const int* step;
    const float *teacher, *a, *b;  // [STATE][STATE]; of the MLP [STATE][hidden], [hidden][STATE]
    float* observations;           // (seed, sequence, T + 1, N)
};

// Numbers of memory of a warp: W, C, states, eigenvalues, hidden units; room of `contract`.
constexpr int STATES = (T + 1) * STATE, MOST_HIDDEN = 64;
constexpr int DRAW_FLOATS = up4(STATE * STATE + N * STATE + STATES + 2 * STATE + MOST_HIDDEN);
constexpr int DRAW_DOUBLES = 2 * STATE * STATE + STATE;

DEVICE float tanh_gelu(float x) { return 0.5f * x * (1.f + hyperbolic_tangent(0.7978845608f * (x + 0.044715f * x * x * x))); }

// MLP(state) / ||MLP(state)|| into `features`.
DEVICE void mlp_features(Warp warp, const Draw& p, const float* state, float* hidden, float* features) {
    for (int u = warp.rank; u < p.hidden; u += Warp::size) {
        float sum = 0;
        for (int i = 0; i < STATE; i++) sum += state[i] * p.a[i * p.hidden + u];
        hidden[u] = tanh_gelu(sum);
    }
    warp.sync();
    float square = 0;
    for (int i = warp.rank; i < STATE; i += Warp::size) {
        float sum = 0;
        for (int u = 0; u < p.hidden; u++) sum += hidden[u] * p.b[u * STATE + i];
        features[i] = sum, square += sum * sum;
    }
    const float inverse = 1.f / square_root(warp.sum(square));
    for (int i = warp.rank; i < STATE; i += Warp::size) features[i] *= inverse;
    warp.sync();
}

// s_{t+1} = W f(s_t) + e_t, clipped; the noise lies where the states shall be.
DEVICE void roll_out(Warp warp, const Draw& p, const float* w, float* states, float* hidden, float* features) {
    constexpr int each = parts(STATE, Warp::size);
    float row[each][STATE];
    UNROLL for (int i = 0; i < each; i++) UNROLL for (int j = 0; j < STATE; j++)
        row[i][j] = w[smaller(warp.rank + i * Warp::size, STATE - 1) * STATE + j];
    for (int t = 0; t < T; t++, states += STATE) {
        if (p.hidden) mlp_features(warp, p, states, hidden, features);
        const float* from = p.hidden ? features : states;
        UNROLL for (int i = 0; i < each; i++) if (warp.rank + i * Warp::size < STATE) {
            float& next = states[STATE + warp.rank + i * Warp::size];
            float sum = next;
            UNROLL for (int j = 0; j < STATE; j++) sum += row[i][j] * from[j];
            next = p.bound == 0 ? sum : sum > p.bound ? p.bound : sum < -p.bound ? -p.bound : sum;
        }
        warp.sync();
    }
}

DEVICE void draw_w(Warp warp, const Draw& p, const Source& source, float* w, float* shared, double* room) {
    if (p.matrix == TEACHER) {
        for (int i = warp.rank; i < STATE * STATE; i += Warp::size) w[i] = p.teacher[i];
        warp.sync();
        return;
    }
    draw_normal(warp, source, OF_W, STATE * STATE, 1.f, w);
    if (p.matrix == CONTRACTING) {
        draw_uniform(warp, source, OF_EIGENVALUES, STATE, shared);
        warp.sync();
        for (int i = warp.rank; i < STATE; i += Warp::size)
            shared[i] = i == 0 ? p.slowest : shared[i] * (p.slowest - p.fastest) + p.fastest;
    }
    warp.sync();
    if (p.matrix == CONTRACTING) contract(warp, w, shared, room);
    else orthogonalise(warp, w, shared);
}

// Number i of those that `draw_uniform` and `draw_normal` draw.
DEVICE float uniform_number(const Source& source, Section section, int i) {
    return unit_interval(words(source, section, i / 4).x[i % 4]);
}
DEVICE float normal_number(const Source& source, Section section, int i, float scale) {
    const Words found = words(source, section, i / 4);
    const Two pair = normal_pair(found.x + i % 4 / 2 * 2, scale);
    return i % 2 ? pair.y : pair.x;
}

// x_1, W x_1 + e_1, x_2, ... for states; the label of the last x may lie behind the end.
DEVICE void draw_pairs(Warp warp, const Draw& p, const Source& source, const float* w, float* states) {
    constexpr int numbers = parts(T + 1, 2) * STATE;
    for (int i = warp.rank; i < numbers; i += Warp::size)
        states[i / STATE * 2 * STATE + i % STATE] = p.start * (2.f * uniform_number(source, OF_START, i) - 1.f);
    warp.sync();
    for (int i = warp.rank; i < numbers; i += Warp::size) {
        const float* x = states + i / STATE * 2 * STATE;
        if (i / STATE * 2 + 1 > T) continue;
        float sum = normal_number(source, OF_NOISE, i, p.state_noise);
        for (int j = 0; j < STATE; j++) sum += w[i % STATE * STATE + j] * x[j];
        states[(i / STATE * 2 + 1) * STATE + i % STATE] = sum;
    }
    warp.sync();
}

// s_t, or C s_t + o_t, where the noise lies in `observations` already.
DEVICE void observe(Warp warp, const Draw& p, const float* c, const float* states, float* observations) {
    for (int i = warp.rank; i < (T + 1) * N; i += Warp::size) {
        const float* state = states + i / N * STATE;
        if (p.c_scale == 0) {
            observations[i] = state[i % N];
            continue;
        }
        float sum = observations[i];
        for (int j = 0; j < STATE; j++) sum += c[i % N * STATE + j] * state[j];
        observations[i] = sum;
    }
}

// Sequence number `index` of all seeds.
DEVICE void draw_sequence(Warp warp, const Draw& p, int index, float* memory) {
    const int seed = index / p.sequences;
    const Source source = {{p.keys[2 * seed], p.keys[2 * seed + 1]}, (unsigned)(index % p.sequences), (unsigned)*p.step};
    float *w = memory, *c = w + STATE * STATE, *states = c + N * STATE, *shared = states + STATES, *features = shared + STATE;
    float* hidden = features + STATE;
    float* observations = p.observations + (long long)index * (T + 1) * N;
    draw_w(warp, p, source, w, shared, reinterpret_cast<double*>(memory + DRAW_FLOATS));
    if (p.pairs) {
        draw_pairs(warp, p, source, w, states);
        observe(warp, p, c, states, observations);
        return;
    }
    draw_uniform(warp, source, OF_START, STATE, states);
    draw_normal(warp, source, OF_NOISE, T * STATE, p.state_noise, states + STATE);
    if (p.c_scale != 0) {
        draw_normal(warp, source, OF_C, N * STATE, p.c_scale, c);
        draw_normal(warp, source, OF_OBSERVATION_NOISE, (T + 1) * N, p.obs_noise, observations);
    }
    warp.sync();
    for (int i = warp.rank; i < STATE; i += Warp::size) states[i] = p.start * (2.f * states[i] - 1.f);
    warp.sync();
    roll_out(warp, p, w, states, hidden, features);
    observe(warp, p, c, states, observations);
}
#else
constexpr int DRAW_FLOATS = 0, DRAW_DOUBLES = 0;
#endif
