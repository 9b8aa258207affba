// The entry points of a GPU.
#include "around.h"
#include "draw.h"

#define INDEX (int)(blockIdx.x * blockDim.x + threadIdx.x), (int)(gridDim.x * blockDim.x)

extern "C" {
// What whoever launches must know: threads of the step, its blocks on a multiprocessor, its bytes of shared memory; then sizes
// of arrays.
__device__ int mesaopt_sizes[] = {THREADS, BLOCKS, 4 * PLACES.in_shared, PLACES.in_device, STREAM,
    KEPT,    TABLE,  HIDDEN,               4 * DRAW_FLOATS,  8 * DRAW_DOUBLES};

__global__ void __launch_bounds__(THREADS, BLOCKS) mesaopt_step(const Step step) {
    extern __shared__ Four memory[];
    float* spill = step.spill + (long long)blockIdx.x * PLACES.in_device;
    work_off(Block{(int)threadIdx.x}, blockIdx.x, step, arrays_of(reinterpret_cast<float*>(memory), spill));
}
__global__ void mesaopt_pack(const Pack p) { pack(INDEX, p); }
__global__ void mesaopt_table(const Table p) { make_table(INDEX, p); }
__global__ void mesaopt_losses(const Reduce p) { reduce_losses(INDEX, p); }
__global__ void mesaopt_reduce(const Reduce p) { reduce(INDEX, p); }
__global__ void mesaopt_position_gradients(const PositionGradients p) { position_gradients(INDEX, p); }
#if MESAOPT_N_STATE > 0
__global__ void mesaopt_draw(const Draw p) {
    extern __shared__ Four memory[];
    draw_sequence(Warp{(int)threadIdx.x}, p, blockIdx.x, reinterpret_cast<float*>(memory));
}
#endif
__global__ void mesaopt_optimise(const Optimise p) { optimise(INDEX, p); }
}
