"""The peak of float32 fused multiply-adds of the present GPU, measured: eight independent sums a thread, nothing else."""

import ctypes
import time

import torch

from mesaopt.backends.cuda.fused import filled
from mesaopt.backends.cuda.kernels import Module
from mesaopt.backends.cuda.nvrtc import compile_cuda

STEPS, SUMS, THREADS, BLOCKS = 20000, 8, 256, 8
SOURCE = f"""
struct Peak {{ float* out; float factor; }};
extern "C" __global__ void mesaopt_peak(const Peak p) {{
    float sums[{SUMS}];
    for (int i = 0; i < {SUMS}; i++) sums[i] = threadIdx.x + i;
    for (int step = 0; step < {STEPS}; step++)
        #pragma unroll
        for (int i = 0; i < {SUMS}; i++) sums[i] = sums[i] * p.factor + 1.f;
    float total = 0;
    for (int i = 0; i < {SUMS}; i++) total += sums[i];
    p.out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}}
"""


class Arguments(ctypes.Structure):
    _fields_ = [("out", ctypes.c_void_p), ("factor", ctypes.c_float)]


def peak(rounds: int = 5) -> float:
    """Operations per second, a fused multiply-add counted as two: the best of some rounds."""
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    module = Module(compile_cuda(SOURCE, {}, ("-std=c++17", f"-arch=sm_{device.major}{device.minor}")))
    blocks, seconds = BLOCKS * device.multi_processor_count, []
    out = torch.empty(blocks * THREADS, device="cuda")
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        module.launch("peak", filled(Arguments, out=out, factor=0.5), blocks, THREADS)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2.0 * SUMS * STEPS * len(out) / min(seconds[1:])
