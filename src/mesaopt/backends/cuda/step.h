// Loss and gradients of a model, forward and backward in one go: a block works off one sequence after another.
//
// Of a sequence a block keeps the residual stream, and heads one after another, in shared memory (`sizes.h`, Array); what the
// backward pass needs of every layer it leaves in memory of the device. Gradients add up in a partial sum of each block, which
// `around.h` adds to those of the others in an order that never changes.
#pragma once
#include "attention.h"
#include "mlp.h"

constexpr int MAX_LAYERS = 24;
enum Tokens { GIVEN, CONSTRUCTED, CONSTRUCTED_BARE };

// What one launch is given; seeds * groups blocks, of which each has every groups-th sequence of its seed.
struct Step {
    int depth, heads, sequences, groups;  // sequences: of one seed
    int kinds[MAX_LAYERS];
    int tokens_kind;                            // Tokens; constructed from observations otherwise
    int backward;                               // 0: loss alone
    float clip, lam_floor;                      // clip 0: none
    long long tokens_apart, targets_apart;      // from one sequence to the next, of all seeds
    const float *tokens, *targets;              // [T][N or E], or observations; [T][N]
    const float *packed, *table;                // (seed, packed_model); (seed, heads, TABLE), without positions null
    float *partials, *table_partials;           // (seed, group, packed_model), (seed, group, heads, TABLE)
    double* losses;                             // (seed, group) half the squared errors, summed
    float *stream, *kept;                       // (block, 2 depth + 1, STREAM), (block, depth, heads, KEPT)
    float* spill;                               // (block, PLACES.in_device)
};

// What a block works with: its arrays, and of one sequence, its seed or its group what `Step` has of all.
struct Work {
    float *room, *qkv, *o, *w, *w_o, *x, *s, *a, *dx, *dy;
    const float *tokens, *targets, *packed, *table;
    float *gradient, *table_gradient, *stream, *kept;
    bool first;  // of its sequences: sets the partial sums, to which others add
};

// Of the packed weights or gradients, those of a layer; of the one after the last layer, those of the ends.
template <class Float> DEVICE Float* packed_of(const Step& step, Float* packed, int layer) {
    return packed + layer * packed_layer(step.heads);
}
DEVICE float* kept_of(const Step& step, const Work& k, int layer, int head) {
    return k.kept + (long long)(layer * step.heads + head) * KEPT;
}
// Residual streams: what enters the model; of each layer what leaves its attention, and what leaves it before the clip.
DEVICE float* entering_model(const Work& k) { return k.stream; }
DEVICE float* after_attention(const Work& k, int layer) { return k.stream + (long long)(2 * layer + 1) * STREAM; }
DEVICE float* before_clip(const Work& k, int layer) { return k.stream + (long long)(2 * layer + 2) * STREAM; }

DEVICE float clipped(const Step& step, float z) {
    if (step.clip == 0) return z;
    return z > step.clip ? step.clip : z < -step.clip ? -step.clip : z;  // NaN stays NaN
}
DEVICE bool passes_clip(const Step& step, float z) { return step.clip == 0 || (z >= -step.clip && z <= step.clip); }
DEVICE float lam_of(const Step& step, const float* packed_layer, int head) {
    const float lam = packed_layer[step.heads * PACKED_HEAD + head];
    return lam < step.lam_floor ? step.lam_floor : lam;
}

DEVICE void copy(Block block, int size, const float* from, float* to) {
    for (int i = 4 * block.rank; i < size; i += 4 * Block::size) set_four(to + i, four(from + i));
}
DEVICE void clear_scores(Block block, const Work& k) {
    for (int i = block.rank; i < TP * LS; i += Block::size) k.s[i] = k.a[i] = 0;
}

// ---- a head -----------------------------------------------------------------------------------------------------------------

template <int COLUMNS> DEVICE void load_rows(Block block, int size, const float* from, float* to, int to_row) {
    for (int i = 4 * block.rank; i < size; i += 4 * Block::size)
        set_four(to + i / COLUMNS * to_row + i % COLUMNS, four(from + i));
}
DEVICE void load_head(Block block, const float* packed, const Work& k) {
    load_rows<EP>(block, PACKED_QKV, packed, k.w, LW);
    load_rows<DP>(block, PACKED_O, packed + PACKED_QKV, k.w_o, LO);
}

// The last layer of a model without unembedding: only its first channels are read, the prediction, so no others are made. What
// W_O has for others gets no gradient: its partial sums stay the zeros that they were made as.
DEVICE bool is_narrow(const Step& step, int layer) { return !RAW && D_MLP == 0 && layer == step.depth - 1; }

DEVICE bool is_normalised(int layer) { return NORMALISE && layer > 0; }

DEVICE Scores scores_of(const Work& k, float scale) { return {k.qkv, k.qkv + DP, LQ, LQ, k.s, scale, false}; }

// Loads a head and makes its queries, keys and values of x. Ends with a barrier.
DEVICE void make_head(Block block, const Step& step, const Work& k, int layer, int head) {
    load_head(block, packed_of(step, k.packed, layer) + head * PACKED_HEAD, k);
    block.sync();
    const float* table = layer == 0 && k.table ? k.table + head * TABLE : nullptr;
    project<EP, 3 * DP>(block, k.x, LX, k.w, LW, k.qkv, LQ,
                        [=](int t, int n) { return table && t < T && n < 2 * DP ? table[t * 2 * DP + n] : 0.f; });
    block.sync();
    if (!is_normalised(layer)) return;
    float* unit = kept_of(step, k, layer, head) + KEPT_QKV + KEPT_ADJOINT;
    make_unit(block, k.qkv, unit, unit + KEPT_UNIT);
    block.sync();
}

// The recursions of all heads of a mesa-layer, each by a warp, on what is kept of the layer: queries become R_t q_t, or of the
// `adjoint` the gradients of those R_t times themselves. Ends with a barrier.
DEVICE void recursions(Block block, const Step& step, const Work& k, int layer, bool adjoint) {
    for (int head = warp_index(block); head < step.heads; head += WARPS) {
        float* kept = kept_of(step, k, layer, head);
        const float lam = lam_of(step, packed_of(step, k.packed, layer), head);
        float* room = k.room + warp_index(block) * DP;
        recursion(warp_of(block), kept + DP, LQ, adjoint ? kept + KEPT_QKV : kept, adjoint ? LO : LQ, lam, room);
    }
    block.sync();
}

// Queries, keys and values of all heads of a mesa-layer, where the queries are R_t q_t, are kept. Ends with a barrier.
DEVICE void solve(Block block, const Step& step, const Work& k, int layer) {
    for (int head = 0; head < step.heads; head++) {
        make_head(block, step, k, layer, head);
        copy(block, KEPT_QKV, k.qkv, kept_of(step, k, layer, head));
        block.sync();
    }
    recursions(block, step, k, layer, false);
}

// Adds to dx what the heads of a layer make of x.
DEVICE void attention_forward(Block block, const Step& step, const Work& k, int layer) {
    const int kind = step.kinds[layer];
    const bool mesa = has(MESA) && kind == MESA;
    if (mesa) solve(block, step, k, layer);
    for (int head = 0; head < step.heads; head++) {
        float* kept = kept_of(step, k, layer, head);
        if (mesa) {
            copy(block, KEPT_QKV, kept, k.qkv);
            load_rows<DP>(block, PACKED_O, packed_of(step, k.packed, layer) + head * PACKED_HEAD + PACKED_QKV, k.w_o, LO);
            block.sync();
        } else {
            make_head(block, step, k, layer, head);
            if (step.backward) copy(block, KEPT_QKV, k.qkv, kept);
        }
        scores(block, scores_of(k, kind == SOFTMAX ? softmax_scale() : 1.f));
        block.sync();
        if (has(SOFTMAX) && kind == SOFTMAX) {
            softmax(block, k.s);
            block.sync();
        }
        attend(block, k.s, k.qkv + 2 * DP, LQ, k.o, LO);
        block.sync();
        const float* dx = k.dx;
        const auto residual = [=](int t, int e) { return dx[t * LX + e]; };
        if (is_narrow(step, layer)) project<DP, NP>(block, k.o, LO, k.w_o, LO, k.dx, LX, residual);
        else project<DP, EP>(block, k.o, LO, k.w_o, LO, k.dx, LX, residual);
        block.sync();
    }
}

// In `o` the gradient of a head's answers, from dy and W_O. Ends with a barrier.
DEVICE void answers_gradient(Block block, const Step& step, const Work& k, int layer) {
    if (is_narrow(step, layer)) unproject<NP, DP>(block, false, k.dy, LX, k.w_o, LO, k.o, LO);
    else unproject<EP, DP>(block, false, k.dy, LX, k.w_o, LO, k.o, LO);
    block.sync();
}

DEVICE Scores of_values(const Work& k) { return {k.o, k.qkv + 2 * DP, LO, LQ, k.a, 1.f, false}; }

// Of all heads of a mesa-layer R_t times the gradient of R_t q_t (the solve is its own adjoint), and the gradient of the answers,
// are kept. Ends with a barrier.
DEVICE void solve_backward(Block block, const Step& step, const Work& k, int layer) {
    for (int head = 0; head < step.heads; head++) {
        float* kept = kept_of(step, k, layer, head);
        load_rows<DP>(block, PACKED_O, packed_of(step, k.packed, layer) + head * PACKED_HEAD + PACKED_QKV, k.w_o, LO);
        copy(block, KEPT_QKV, kept, k.qkv);
        block.sync();
        answers_gradient(block, step, k, layer);
        scores(block, of_values(k));
        block.sync();
        attend(block, k.a, k.qkv + DP, LQ, k.w_o, LO);
        block.sync();
        copy(block, TP * LO, k.w_o, kept + KEPT_QKV);
        copy(block, TP * LO, k.o, kept + KEPT_QKV + TP * LO);
        block.sync();
    }
    recursions(block, step, k, layer, true);
}

// With what `solve_backward` made of a mesa-layer in w_o: adds to the gradient of lambda, and takes from those of the scores what
// the keys have as a part of the solve.
DEVICE void add_solve(Block block, const Step& step, const Work& k, int layer, int head) {
    scores(block, {k.w_o, k.qkv + DP, LO, LQ, k.a, 1.f, true});
    if (warp_index(block) != 0) return;
    const Warp warp = warp_of(block);
    float sum = 0;
    for (int i = warp.rank; i < T * D; i += Warp::size) sum += k.w_o[i / D * LO + i % D] * k.qkv[i / D * LQ + i % D];
    sum = warp.sum(sum);
    const float lam = lam_of(step, packed_of(step, k.packed, layer), head);
    float* gradient = packed_of(step, k.gradient, layer) + step.heads * PACKED_HEAD + head;
    if (warp.rank == 0) add_or_set(gradient, sum / (lam * lam), k.first);
}

// From the gradient of a head's answers in `o`: in s the attention weights, in a the gradients of the scores. Ends with a
// barrier.
DEVICE void scores_backward(Block block, const Step& step, const Work& k, int layer, int head) {
    const int kind = step.kinds[layer];
    scores(block, scores_of(k, kind == SOFTMAX ? softmax_scale() : 1.f), of_values(k));
    block.sync();
    if (has(SOFTMAX) && kind == SOFTMAX) {
        softmax_back(block, k.s, k.a);
        block.sync();
    }
    if (has(MESA) && kind == MESA) {
        add_solve(block, step, k, layer, head);
        block.sync();
    }
}

// In place of queries, keys and values their gradients, and in place of d_o the head's answers. Ends with a barrier.
DEVICE void attention_gradients(Block block, const Work& k, int kind) {
    HeadTile dq[HeadTiles::rounds], dk[HeadTiles::rounds], dv[HeadTiles::rounds], answers[HeadTiles::rounds];
    const bool mesa = has(MESA) && kind == MESA;
    HeadTiles::each(block, [&](int row, int column, int round) {
        clear(dq[round]), clear(dk[round]), clear(dv[round]), clear(answers[round]);
        add_past(answers[round], row, column, k.s, k.qkv + 2 * DP, LQ);
        add_future(dv[round], row, column, k.s, k.o, LO);
        add_future(dk[round], row, column, k.a, k.qkv, LQ);
        if (!mesa) add_past(dq[round], row, column, k.a, k.qkv + DP, LQ);
        else {
            add_future(dk[round], row, column, k.s, k.w_o, LO, -1.f);
            UNROLL for (int i = 0; i < HeadTiles::rows; i++)
                load_row(dq[round][i], k.w_o + (row * HeadTiles::rows + i) * LO + column * HeadTiles::columns);
        }
    });
    block.sync();
    HeadTiles::each(block, [&](int row, int column, int round) {
        store(dq[round], row, column, k.qkv, LQ);
        store(dk[round], row, column, k.qkv + DP, LQ);
        store(dv[round], row, column, k.qkv + 2 * DP, LQ);
        store(answers[round], row, column, k.o, LO);
    });
    block.sync();
}

DEVICE void add_to_table(Block block, const float* qkv, float* table, bool first) {
    for (int i = block.rank; i < TABLE; i += Block::size) add_or_set(table + i, qkv[i / (2 * DP) * LQ + i % (2 * DP)], first);
}

// From dy, the gradient of what the heads add to: adds to dx that of x, if anything below needs it, and to those of the weights.
DEVICE void attention_backward(Block block, const Step& step, const Work& k, int layer) {
    const int kind = step.kinds[layer];
    const bool mesa = has(MESA) && kind == MESA;
    if (mesa) solve_backward(block, step, k, layer);
    for (int head = 0; head < step.heads; head++) {
        const float* packed = packed_of(step, k.packed, layer) + head * PACKED_HEAD;
        float *kept = kept_of(step, k, layer, head), *of_head = packed_of(step, k.gradient, layer) + head * PACKED_HEAD;
        copy(block, KEPT_QKV, kept, k.qkv);
        if (mesa) {
            load_rows<EP>(block, PACKED_QKV, packed, k.w, LW);
            copy(block, TP * LO, kept + KEPT_QKV, k.w_o);
            copy(block, TP * LO, kept + KEPT_QKV + TP * LO, k.o);
            block.sync();
        } else {
            load_head(block, packed, k);
            block.sync();
            answers_gradient(block, step, k, layer);
        }
        scores_backward(block, step, k, layer, head);
        attention_gradients(block, k, kind);
        if (is_normalised(layer)) {
            const float* unit = kept + KEPT_QKV + KEPT_ADJOINT;
            make_unit_back(block, k.qkv, unit, unit + KEPT_UNIT);
            block.sync();
        }
        if (RAW || layer > 0) unproject<3 * DP, EP>(block, true, k.qkv, LQ, k.w, LW, k.dx, LX);
        weight_gradient<3 * DP, EP>(block, k.qkv, LQ, k.x, LX, of_head, k.first);
        if (is_narrow(step, layer)) weight_gradient<NP, DP>(block, k.dy, LX, k.o, LO, of_head + PACKED_QKV, k.first);
        else weight_gradient<EP, DP>(block, k.dy, LX, k.o, LO, of_head + PACKED_QKV, k.first);
        if (layer == 0 && k.table) add_to_table(block, k.qkv, k.table_gradient + head * TABLE, k.first);
        block.sync();
    }
}

// ---- ends of the model ------------------------------------------------------------------------------------------------------

// Channel e of token t, from the observations if it is not given (data/tokens.py).
DEVICE float token(const Step& step, const float* tokens, int t, int e) {
    if (step.tokens_kind == GIVEN) return tokens[t * (RAW ? N : E) + e];
    const int part = e / N, channel = e % N;
    if (part == 0 || (part == 1 && step.tokens_kind == CONSTRUCTED_BARE)) return 0;
    if (part == 3) return t == 0 ? 0.f : tokens[(t - 1) * N + channel];
    return tokens[t * N + channel];
}

// The residual stream before the first layer, in x and dx.
DEVICE void enter(Block block, const Step& step, const Work& k) {
    const float* embedding = packed_of(step, k.packed, step.depth);
    for (int i = block.rank; i < STREAM; i += Block::size) {
        const int t = i / LX, e = i % LX;
        float value = 0;
        if (t < T && e < E) {
            if (!RAW) value = token(step, k.tokens, t, e);
            else for (int n = 0; n < N; n++) value += embedding[e * NP + n] * k.tokens[t * N + n];
        }
        k.x[i] = k.dx[i] = entering_model(k)[i] = value;
    }
}

// From the last residual stream in x: adds half the squared errors to `loss`; in dy the gradient of x, and in `qkv` [T][NP] the
// errors times `scale`. Ends with a barrier.
DEVICE void read_out(Block block, const Step& step, const Work& k, float scale, double* loss) {
    const float* unembedding = packed_of(step, k.packed, step.depth) + EP * NP;
    const Warp warp = warp_of(block);
    double squares = 0;
    for (int i = block.rank; i < T * N; i += Block::size) {
        const int t = i / N, n = i % N;
        float prediction = 0;
        if (!RAW) prediction = k.x[t * LX + n];
        else for (int e = 0; e < E; e++) prediction += k.x[t * LX + e] * unembedding[n * EP + e];
        const float error = prediction - k.targets[i];
        squares += (double)error * error;
        k.qkv[t * NP + n] = error * scale;
    }
    const float sum = warp.sum((float)squares);
    if (warp.rank == 0) k.room[warp_index(block)] = sum;
    block.sync();
    if (block.rank == 0) {
        double total = k.first ? 0. : *loss;
        for (int i = 0; i < WARPS; i++) total += 0.5 * k.room[i];
        *loss = total;
    }
    for (int i = block.rank; i < STREAM; i += Block::size) {
        const int t = i / LX, e = i % LX;
        float value = 0;
        if (t < T && RAW) for (int n = 0; n < N; n++) value += k.qkv[t * NP + n] * unembedding[n * EP + e];
        else if (t < T && e < N) value = k.qkv[t * NP + e];
        k.dy[i] = value;
    }
}

DEVICE void unembedding_gradient(Block block, const Step& step, const Work& k) {
    float* gradient = packed_of(step, k.gradient, step.depth) + EP * NP;
    for (int i = block.rank; i < N * EP; i += Block::size) {
        float sum = 0;
        for (int t = 0; t < T; t++) sum += k.qkv[t * NP + i / EP] * k.x[t * LX + i % EP];
        add_or_set(gradient + i, sum, k.first);
    }
}
DEVICE void embedding_gradient(Block block, const Step& step, const Work& k) {
    float* gradient = packed_of(step, k.gradient, step.depth);
    for (int i = block.rank; i < EP * N; i += Block::size) {
        const int e = i / N, n = i % N;
        float sum = 0;
        for (int t = 0; t < T; t++) sum += k.dy[t * LX + e] * k.tokens[t * N + n];
        add_or_set(gradient + e * NP + n, sum, k.first);
    }
}

// ---- layers, and a sequence -------------------------------------------------------------------------------------------------

// From the residual stream in x and dx to the next one.
DEVICE void forward(Block block, const Step& step, const Work& k, int layer) {
    attention_forward(block, step, k, layer);
#if MESAOPT_D_MLP > 0
    for (int i = block.rank; i < STREAM; i += Block::size) k.x[i] = after_attention(k, layer)[i] = k.dx[i];
    block.sync();
    mlp_forward(block, packed_of(step, k.packed, layer + 1) - PACKED_MLP, k.x, k.w, k.s, k.dx);
    clear_scores(block, k);
#endif
    for (int i = block.rank; i < STREAM; i += Block::size) {
        const float z = k.dx[i];
        before_clip(k, layer)[i] = z;
        k.x[i] = k.dx[i] = clipped(step, z);
    }
    block.sync();
}

// In x the residual stream that enters a layer.
DEVICE void recall(Block block, const Step& step, const Work& k, int layer) {
    for (int i = block.rank; i < STREAM; i += Block::size)
        k.x[i] = layer == 0 ? entering_model(k)[i] : clipped(step, before_clip(k, layer - 1)[i]);
}

// From the gradient of what leaves a layer, in dy, to that of what enters it.
DEVICE void backward(Block block, const Step& step, const Work& k, int layer) {
    for (int i = block.rank; i < STREAM; i += Block::size) {
        const float dz = passes_clip(step, before_clip(k, layer)[i]) ? k.dy[i] : 0.f;
        k.dy[i] = k.dx[i] = dz;
        if (D_MLP > 0) k.x[i] = after_attention(k, layer)[i];
    }
#if MESAOPT_D_MLP > 0
    block.sync();
    mlp_backward(block, packed_of(step, k.packed, layer + 1) - PACKED_MLP, k.x, k.dy, k.w, k.s, k.a, k.dx,
                 packed_of(step, k.gradient, layer + 1) - PACKED_MLP, k.first);
    clear_scores(block, k);
    for (int i = block.rank; i < STREAM; i += Block::size) k.dy[i] = k.dx[i];
#endif
    recall(block, step, k, layer);
    block.sync();
    attention_backward(block, step, k, layer);
    for (int i = block.rank; i < STREAM; i += Block::size) k.dy[i] = k.dx[i];
    block.sync();
}

DEVICE void sequence(Block block, const Step& step, const Work& k, double* loss) {
    enter(block, step, k);
    block.sync();
    for (int layer = 0; layer < step.depth; layer++) forward(block, step, k, layer);
    read_out(block, step, k, 1.f / ((float)step.sequences * T), loss);
    if (step.backward) {
        if (RAW) unembedding_gradient(block, step, k);
        block.sync();
        for (int layer = step.depth - 1; layer >= 0; layer--) backward(block, step, k, layer);
        if (RAW) embedding_gradient(block, step, k);
    }
    block.sync();
}

// The arrays of a block (`sizes.h`), each of SIZES numbers.
struct Arrays {
    float* at[ARRAYS];
};
DEVICE Arrays arrays_of(float* shared, float* in_device) {
    Arrays arrays = {};
    UNROLL for (int i = 0; i < ARRAYS; i++) arrays.at[i] = (PLACES.shared[i] ? shared : in_device) + PLACES.at[i];
    return arrays;
}

// What is the same for all sequences of a block.
DEVICE Work work_of(const Step& step, int index, const Arrays& arrays) {
    float* const* at = arrays.at;
    Work k = {at[ROOM], at[QKV], at[O], at[W], at[W_O], at[X], at[S], at[A], at[DX], at[DY]};
    const int model = packed_model(step.depth, step.heads), table = step.heads * TABLE;
    const long long seed = index / step.groups, block = index;
    k.packed = step.packed + seed * model, k.table = step.table ? step.table + seed * table : nullptr;
    k.gradient = step.partials + block * model, k.table_gradient = step.table_partials + block * table;
    k.stream = step.stream + block * (2 * step.depth + 1) * STREAM, k.kept = step.kept + block * step.depth * step.heads * KEPT;
    return k;
}

// All sequences of block number `index`.
DEVICE void work_off(Block block, int index, const Step& step, const Arrays& arrays) {
    UNROLL for (int array = 0; array < ARRAYS; array++)
        for (int i = block.rank; i < SIZES[array]; i += Block::size) arrays.at[array][i] = 0;
    block.sync();
    Work k = work_of(step, index, arrays);
    const int seed = index / step.groups, group = index % step.groups;
    for (int i = group; i < step.sequences; i += step.groups) {
        const long long which = (long long)seed * step.sequences + i;
        k.tokens = step.tokens + which * step.tokens_apart, k.targets = step.targets + which * step.targets_apart;
        k.first = i == group;
        sequence(block, step, k, step.losses + index);
    }
}
