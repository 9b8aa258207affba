// Sizes of arrays and tiles, all known when the code is compiled.
//
// What comes with -D has names of its own: the compiler's headers use short ones.
//
// Everything is padded with zeros: columns to a multiple of four, so that rows are read four numbers at a time, and rows so
// that tiles need no edges. Strides that lanes of a warp step over are odd multiples of four, so that they meet different
// banks.
#pragma once

constexpr int T = MESAOPT_TIME, D = MESAOPT_D_HEAD, E = MESAOPT_D_MODEL, N = MESAOPT_N_OBS, D_PE = MESAOPT_D_PE;
constexpr int D_MLP = MESAOPT_D_MLP;          // 0: none
constexpr int NORMALISE = MESAOPT_NORMALISE;  // bit 0: queries, 1: keys, 2: values have norm 1 in all layers but the first
constexpr bool RAW = MESAOPT_RAW;             // tokens are embedded
constexpr int KINDS = MESAOPT_KINDS;          // bit 0: there are linear layers, 1: softmax, 2: mesa
// Bytes of shared memory that one block, and all blocks of a multiprocessor, may have.
constexpr int SHARED_BLOCK = MESAOPT_SHARED_BLOCK, SHARED_PROCESSOR = MESAOPT_SHARED_PROCESSOR;

constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int smaller(int a, int b) { return a < b ? a : b; }
constexpr int parts(int n, int size) { return (n + size - 1) / size; }
constexpr int up4(int n) { return parts(n, 4) * 4; }
constexpr int odd4(int n) { return up4(n) / 4 % 2 ? up4(n) : up4(n) + 4; }

enum Kind { LINEAR, SOFTMAX, MESA };
constexpr bool has(Kind kind) { return KINDS >> kind & 1; }

constexpr int DP = up4(D), EP = up4(E), NP = up4(N), PP = up4(D_PE);
constexpr int TP = T % 10 == 0 ? T : up4(T);  // positions: a multiple of 4, or of 2 and 5
constexpr int UNITS = D_MLP == 0 ? 0 : up4(parts(D_MLP, parts(D_MLP, smaller(32, up4(T)))));  // hidden units at a time
constexpr int HIDDEN = D_MLP == 0 ? 0 : parts(D_MLP, UNITS) * UNITS;

// Row strides: residual stream, queries beside keys and values, one of them alone, scores or hidden units, rows of weights.
constexpr int LX = EP, LQ = odd4(3 * DP), LO = odd4(DP), LS = odd4(larger(T, UNITS)), LW = odd4(E);

// ---- a head's, a layer's and a model's weights as they lie in memory ("packed"), without padding of rows for banks ----------

constexpr int PACKED_QKV = 3 * DP * EP, PACKED_O = EP * DP;  // [3 DP][EP], [EP][DP]
constexpr int PACKED_HEAD = PACKED_QKV + PACKED_O;
constexpr int PACKED_MLP = 2 * HIDDEN * EP;               // W_1, W_2 transposed [HIDDEN][EP]
constexpr int PACKED_ENDS = RAW ? EP * NP + NP * EP : 0;  // embedding [EP][NP], unembedding [NP][EP]
constexpr int PACKED_POSITIONS = 2 * DP * PP;             // of a head in the first layer [2 DP][PP]
constexpr int packed_layer(int heads) { return heads * PACKED_HEAD + up4(heads) + PACKED_MLP; }  // heads, lambdas, MLP
constexpr int packed_model(int depth, int heads) { return depth * packed_layer(heads) + PACKED_ENDS; }
constexpr int TABLE = T * 2 * DP;  // what positions add to queries and keys of a head of the first layer [T][2 DP]

// ---- arrays of a block ------------------------------------------------------------------------------------------------------

// In the order in which they are given shared memory while there is some; the others lie in memory of the device.
enum Array { ROOM, QKV, O, W, W_O, X, S, A, DX, DY, ARRAYS };
constexpr int SIZES[ARRAYS] = {
    has(MESA) ? larger(32, 12 * DP) : 32,                       // what lanes tell one another
    larger(up4(T) * LQ, TP * NP),             // queries, keys, values of a head; errors of the predictions
    TP * LO,                               // a head's answers; their gradient
    larger(3 * DP, 2 * UNITS) * LW,           // rows of W_Q, W_K, W_V; of W_1 and of W_2 transposed
    larger(EP, TP) * LO,                      // W_O; then answers of the mesa-layer's adjoint
    TP * LX,                               // residual stream that enters a layer
    TP * LS,                               // attention weights; hidden units
    TP * LS,                               // their gradient
    TP * LX,                               // residual stream that leaves it; gradient of what enters
    TP * LX,                               // gradient of what leaves
};
constexpr int total_size() {
    int sum = 0;
    for (int size : SIZES) sum += up4(size);
    return sum;
}
constexpr int FLOATS = total_size(), RESERVED = 1024;  // bytes that the system takes of a multiprocessor for each block
constexpr bool fits(int blocks) { return 4 * FLOATS <= smaller(SHARED_BLOCK, SHARED_PROCESSOR / blocks - RESERVED); }
// Blocks of a multiprocessor, and what part of its 384 threads each has: more would have too few registers.
constexpr int BLOCKS = fits(3) ? 3 : fits(2) ? 2 : 1;
constexpr int THREADS = 384 / BLOCKS;

struct Places {
    int at[ARRAYS];
    bool shared[ARRAYS];
    int in_shared, in_device;
};
constexpr Places placed() {
    Places p = {};
    for (int i = 0; i < ARRAYS; i++) {
        p.shared[i] = 4 * (p.in_shared + up4(SIZES[i])) <= SHARED_BLOCK;
        int& used = p.shared[i] ? p.in_shared : p.in_device;
        p.at[i] = used;
        used += up4(SIZES[i]);
    }
    return p;
}
constexpr Places PLACES = placed();

// What the forward pass of one layer leaves for the backward one: what entered it, what left its attention, and what left it
// before the clip ([TP][LX] each); per head queries, keys, values and where they have norm 1 the norms that they had.
constexpr int STREAM = TP * LX, KEPT_QKV = up4(T) * LQ;
constexpr int KEPT_UNIT = NORMALISE ? 3 * T * DP : 0, KEPT_NORMS = NORMALISE ? up4(3 * T) : 0;
constexpr int KEPT_ADJOINT = has(MESA) ? 2 * TP * LO : 0;  // of a mesa-layer the solve's gradient, and that of the answers
constexpr int KEPT = KEPT_QKV + KEPT_ADJOINT + KEPT_UNIT + KEPT_NORMS;
