// The kernels' entry points without a GPU: blocks run one after another.
#include "around.h"
#include "draw.h"

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <vector>

// Every array of a block by itself, so that what is read or written outside of it is found; filled with NaN, which zeros must
// replace.
struct Memory {
    Arrays arrays;
    Memory() {
        for (int i = 0; i < ARRAYS; i++) {
            arrays.at[i] = (float*)std::aligned_alloc(16, SIZES[i] * sizeof(float));
            std::fill_n(arrays.at[i], SIZES[i], NAN);
        }
    }
    ~Memory() {
        for (float* array : arrays.at) std::free(array);
    }
};

// `size` threads of the operating system, the first of which is this one, each calling work(rank).
template <class F> static void together(int size, F work) {
    Barriers own;
    barriers = &own;
    std::vector<std::thread> others;
    for (int rank = 1; rank < size; rank++) others.emplace_back([=] {
        this_thread = rank;
        work(rank);
    });
    work(0);
    for (auto& thread : others) thread.join();
}

static void run_block(int index, const Step& step) {
    Memory memory;
    together(TEAM, [&](int rank) { work_off(Block{rank}, index, step, memory.arrays); });
}

#if MESAOPT_N_STATE > 0
static void run_warp(int index, const Draw& p) {
    const int size = 4 * DRAW_FLOATS + (p.matrix == CONTRACTING ? 8 * DRAW_DOUBLES : 0);
    float* memory = (float*)std::aligned_alloc(16, (size + 15) / 16 * 16);
    together(LANES, [&](int rank) { draw_sequence(Warp{rank}, p, index, memory); });
    std::free(memory);
}
#endif

extern "C" {
extern const int mesaopt_sizes[] = {THREADS, BLOCKS, 4 * PLACES.in_shared, PLACES.in_device, STREAM,
    KEPT,    TABLE,  HIDDEN,               4 * DRAW_FLOATS,  8 * DRAW_DOUBLES};

void mesaopt_step(const Step* step, int blocks) {
    for (int index = 0; index < blocks; index++) run_block(index, *step);
}
void mesaopt_pack(const Pack* p, int) { pack(0, 1, *p); }
void mesaopt_table(const Table* p, int) { make_table(0, 1, *p); }
void mesaopt_losses(const Reduce* p, int) { reduce_losses(0, 1, *p); }
void mesaopt_reduce(const Reduce* p, int) { reduce(0, 1, *p); }
void mesaopt_position_gradients(const PositionGradients* p, int) { position_gradients(0, 1, *p); }
#if MESAOPT_N_STATE > 0
void mesaopt_draw(const Draw* p, int sequences) {
    for (int index = 0; index < sequences; index++) run_warp(index, *p);
}
#endif
void mesaopt_optimise(const Optimise* p, int) { optimise(0, 1, *p); }
}
