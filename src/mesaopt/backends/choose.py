"""Which backend trains a run: the native kernel where it can, PyTorch for all else."""

import sys
from collections.abc import Callable

from mesaopt.backends.native.backend import NativeBackend, alone, available
from mesaopt.backends.native.build import BuildError
from mesaopt.backends.native.sequences import sequences_library
from mesaopt.backends.protocol import Backend
from mesaopt.backends.torch import TorchBackend
from mesaopt.errors import InputError
from mesaopt.spec.run import Run


def choose(name: str, run: Run, device: str, threads: Callable[[], int] = alone) -> Backend:
    """The backend called `name` (auto, torch or native) for a run on `device` (cpu or cuda).

    `auto` takes the native kernel on a CPU, and for a GPU PyTorch with batches that native code draws, for which the GPU would
    wait otherwise; it falls back on PyTorch for either with one line on standard error that says why. Raises `InputError` when
    `native` is asked for and cannot be had. `threads` says step by step how many threads may compute.
    """
    objective = run.training.objective
    if name == "torch":
        return TorchBackend(objective)
    if name == "auto" and device != "cpu":
        return TorchBackend(objective, compiled_batches=_compiles_batches(run))
    reason = available(run) if device == "cpu" else "the native kernel is for CPUs"
    if reason is None:
        return NativeBackend(threads)
    if name == "native":
        raise InputError(f"{run.name}: backend native: {reason}; choose auto or torch")
    print(f"mesaopt: {run.name}: PyTorch takes over: {reason}", file=sys.stderr, flush=True)
    return TorchBackend(objective)


def _compiles_batches(run: Run) -> bool:
    try:
        sequences_library(run.task.n_state)
    except BuildError as error:
        print(f"mesaopt: {run.name}: batches are drawn without compiled code: {error}", file=sys.stderr, flush=True)
        return False
    return True
