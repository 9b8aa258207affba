"""Trainings on a GPU: by the CUDA kernel where it can, else as `training.loop` trains anywhere.

Apart from `training.loop`, so that what is made on a CPU does not depend on it: no training of a CPU is made anew for a change to
the kernel of GPUs.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mesaopt.backends.cuda.backend import CudaBackend, available
from mesaopt.errors import InputError
from mesaopt.process.checkpoint import exclusive
from mesaopt.process.stopping import StopRequest
from mesaopt.spec.run import Run
from mesaopt.training.fused import FusedStep
from mesaopt.training.loop import Options, Trainer, work
from mesaopt.training.run_folder import is_finished, refuse_diverged, remove_leftovers, write_outputs


class GpuTrainer(Trainer):
    """A `Trainer` whose steps are the CUDA kernel's where it can be had; where not, one line on standard error says why.

    Raises `InputError` where backend cuda is asked for and cannot be had.
    """

    def __init__(self, run: Run, seeds: Sequence[int], homes: Sequence[Path], options: Options) -> None:
        asked = options.backend
        super().__init__(run, seeds, homes, replace(options, backend="auto") if asked == "cuda" else options)
        if asked not in ("auto", "cuda"):
            return
        reason = available(run)
        if reason is None:
            self.fuse()
        elif asked == "cuda":
            raise InputError(f"{run.name}: backend cuda: {reason}; choose auto or torch")
        else:
            print(f"mesaopt: {run.name}: PyTorch takes over: {reason}", file=sys.stderr, flush=True)

    def fuse(self) -> None:
        """Let the CUDA kernel make the steps, and what draws batches now draw them still."""
        compiled = self.computed["sampler"] != CudaBackend().sampler(self.run.task).name
        backend = CudaBackend(compiled, device=self.options.device)
        self.backend, self.captured = backend, FusedStep(self.run, self.seeds, self.state, backend)
        self.computed = self.computed | {"backend": backend.name}
        self.identity = self.identity | self.computed


def train(run: Run, folders: Mapping[int, Path], options: Options) -> None:
    """`training.loop.train` with a `GpuTrainer`: the same files, checkpoints, signals and errors."""
    seeds, pending = list(folders), list(folders)
    homes = [options.checkpoints / run.name / f"seed-{seed}" for seed in seeds]
    with contextlib.ExitStack() as stack:
        for seed, home in zip(seeds, homes, strict=True):
            waited = stack.enter_context(exclusive(home, f"{run.name} seed {seed}"))
            if waited and is_finished(run, seed, folders[seed], work(run)):
                pending.remove(seed)
        if not pending:
            return
        remove_leftovers(folders.values())
        stop = stack.enter_context(StopRequest())
        trainer = GpuTrainer(run, seeds, homes, options)
        for home in homes:
            refuse_diverged(home, trainer.work)
        trainer.loop(stop)
        write_outputs(run, folders, trainer.state, trainer.provenance())
        if not options.keep_checkpoint:
            trainer.checkpoint_path.unlink(missing_ok=True)
