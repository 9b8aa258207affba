// What the device code stands on: teams of threads with barriers, vectors of two and four numbers, a few functions of
// mathematics.
//
// Nothing here or above needs a header of CUDA or of C++, so that NVRTC compiles it without any. Without CUDA the same code is
// plain C++ (`emulation.h`, which the tests bring): teams there are as large as the emulation says, down to a single thread. So
// work is dealt out as `for (int i = team.rank; i < n; i += team.size)`, and what one thread wrote another reads after
// `team.sync()`.
#pragma once
#include "sizes.h"

#if defined(__CUDACC__)
#define DEVICE static __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_SOME _Pragma("unroll 4")

struct Block {
    int rank;
    static constexpr int size = THREADS;
    __device__ __forceinline__ void sync() const { __syncthreads(); }
};
struct Warp {
    int rank;  // the lane
    static constexpr int size = 32;
    __device__ __forceinline__ void sync() const { __syncwarp(); }
    __device__ __forceinline__ float sum(float x) const {
        UNROLL for (int step = 16; step; step /= 2) x += __shfl_xor_sync(~0u, x, step);
        return x;
    }
    __device__ __forceinline__ float largest(float x) const {
        UNROLL for (int step = 16; step; step /= 2) {
            const float other = __shfl_xor_sync(~0u, x, step);
            x = other > x ? other : x;
        }
        return x;
    }
};
DEVICE unsigned high_product(unsigned a, unsigned b) { return __umulhi(a, b); }
DEVICE float square_root(float x) { return sqrtf(x); }
DEVICE float exponential(float x) { return expf(x); }
DEVICE float logarithm(float x) { return logf(x); }
DEVICE float cosine_of_turns(float x) { return cospif(2.f * x); }  // cos 2 pi x
DEVICE float sine_of_turns(float x) { return sinpif(2.f * x); }
DEVICE float hyperbolic_tangent(float x) { return tanhf(x); }
#else
#include "emulation.h"
#endif

struct alignas(16) Four {
    float x, y, z, w;
};
struct alignas(8) Two {
    float x, y;
};
DEVICE Four four(const float* from) { return *reinterpret_cast<const Four*>(from); }
DEVICE void set_four(float* to, Four v) { *reinterpret_cast<Four*>(to) = v; }
DEVICE Two two(const float* from) { return *reinterpret_cast<const Two*>(from); }

DEVICE Warp warp_of(Block block) { return {block.rank % Warp::size}; }
DEVICE int warp_index(Block block) { return block.rank / Warp::size; }
constexpr int WARPS = Block::size / Warp::size;
