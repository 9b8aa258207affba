"""Trainings on GPUs, by the CUDA kernel where it can, and those whose batches are drawn by counter (`generator: philox`).

Apart from `training.loop`, so that what is made on a CPU does not depend on it: no training of a CPU is made anew for a change to
the kernel of GPUs.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.cuda.backend import CudaBackend, available
from mesaopt.data.counted import law_of, training_batch
from mesaopt.errors import InputError
from mesaopt.spec.run import Run
from mesaopt.training.captured import CapturedStep
from mesaopt.training.fused import FusedStep
from mesaopt.training.held import disagreement
from mesaopt.training.loop import Options, Trainer, train_with
from mesaopt.training.step import descend, factors

#: the device that the CUDA backend is for
DEVICE = "cuda"


class CountedStep(CapturedStep):
    """`CapturedStep` of batches that the CPU draws by counter."""

    def draw(self) -> Iterator[Float[Tensor, "batch time_plus_1 n_obs"]]:
        """The batch of the present step for each seed."""
        yield from training_batch(self.run, self.seeds, self.state.step)


class ExtendedTrainer(Trainer):
    """A `Trainer` whose steps on a GPU are the CUDA kernel's where it can be had; where not, one line on standard error says why.

    Raises `InputError` where backend cuda is asked for and cannot be had, and for tasks that are not drawn by counter.
    """

    def __init__(self, run: Run, seeds: Sequence[int], homes: Sequence[Path], options: Options) -> None:
        asked, self.counted = options.backend, run.training.generator == "philox"
        reason = self._why_not(run, options)
        super().__init__(run, seeds, homes, replace(options, backend="auto") if asked == "cuda" else options)
        if reason is None and asked == "auto":
            reason = self._disagreement()
        if reason is None:
            self.fuse()
        if self.counted:
            self.count()
        self.identity = self.identity | self.computed

    def _why_not(self, run: Run, options: Options) -> str | None:
        """Why the CUDA backend does not make the steps; says so where it might have been expected."""
        asked = options.backend
        wanted = options.device == DEVICE and asked in ("auto", "cuda")
        reason = available(run, spilling=asked == "cuda") if wanted else "it is for GPUs"
        if reason and asked == "cuda":
            raise InputError(f"{run.name}: backend cuda: {reason}; choose auto or torch")
        if reason and options.device == DEVICE and asked == "auto":
            self._say(run, reason)
        return reason

    def _say(self, run: Run, reason: str) -> None:
        print(f"mesaopt: {run.name}: PyTorch takes over: {reason}", file=sys.stderr, flush=True)

    def _disagreement(self) -> str | None:
        """Why the kernel, where nobody asked for it by name, is not trusted on this GPU; says so."""
        reason = disagreement(self.run, self.seeds, self.state, CudaBackend(device=self.options.device))
        if reason:
            self._say(self.run, reason)
        return reason

    def fuse(self) -> None:
        """Let the CUDA kernel make the steps, and what draws batches now draw them still."""
        compiled = self.computed["sampler"] != CudaBackend().sampler(self.run.task).name
        backend = CudaBackend(compiled, device=self.options.device)
        self.backend, self.captured = backend, FusedStep(self.run, self.seeds, self.state, backend)
        self.computed = self.computed | {"backend": backend.name}

    def count(self) -> None:
        """Let batches be drawn by counter: by the CUDA kernel itself, or by the CPU."""
        law_of(self.run.task)
        if self.captured is not None and not isinstance(self.captured, FusedStep):
            self.captured = CountedStep(self.run, self.seeds, self.state, self.backend)
        self.computed = self.computed | {"sampler": "philox"}

    def step(self) -> Float[Tensor, " pack"]:
        """One update; returns the loss before it."""
        if self.captured is not None or not self.counted:
            return super().step()
        state, batch = self.state, training_batch(self.run, self.seeds, self.state.step)
        state.train_losses = descend(self.run, state, self.backend, batch, factors(self.run, state))
        state.step += 1
        return state.train_losses


def train(run: Run, folders: Mapping[int, Path], options: Options) -> None:
    """`training.loop.train` with an `ExtendedTrainer`: the same files, checkpoints, signals and errors."""
    train_with(ExtendedTrainer, run, folders, options)
