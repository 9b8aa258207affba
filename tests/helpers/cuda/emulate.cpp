// The kernels' entry points without a GPU: blocks run one after another.
#include "around.h"

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

static void run_block(int index, const Step& step) {
    Memory memory;
    pthread_barrier_init(&block_barrier, nullptr, TEAM);
    for (auto& barrier : warp_barriers) pthread_barrier_init(&barrier, nullptr, LANES);
    std::vector<std::thread> team;
    for (int rank = 1; rank < TEAM; rank++) team.emplace_back([&, rank] {
        this_thread = rank;
        work_off(Block{rank}, index, step, memory.arrays);
    });
    work_off(Block{0}, index, step, memory.arrays);
    for (auto& thread : team) thread.join();
    pthread_barrier_destroy(&block_barrier);
    for (auto& barrier : warp_barriers) pthread_barrier_destroy(&barrier);
}

extern "C" {
extern const int mesaopt_sizes[] = {THREADS, BLOCKS, 4 * PLACES.in_shared, PLACES.in_device, STREAM, KEPT, TABLE, HIDDEN};

void mesaopt_step(const Step* step, int blocks) {
    for (int index = 0; index < blocks; index++) run_block(index, *step);
}
void mesaopt_pack(const Pack* p, int) { pack(0, 1, *p); }
void mesaopt_table(const Table* p, int) { make_table(0, 1, *p); }
void mesaopt_losses(const Reduce* p, int) { reduce_losses(0, 1, *p); }
void mesaopt_reduce(const Reduce* p, int) { reduce(0, 1, *p); }
void mesaopt_position_gradients(const PositionGradients* p, int) { position_gradients(0, 1, *p); }
void mesaopt_optimise(const Optimise* p, int) { optimise(0, 1, *p); }
}
