"""Training: the loop of the paper's section on training details, and what makes it survive interruptions.

Online: every step draws a fresh batch. Loss is half the squared error summed over channels, mean over sequences and positions;
gradients are clipped elementwise to [-1, 1]; AdamW. Everything drawn is a pure function of (seed, stream, step), so a training
that goes on from a checkpoint ends with the same bits as one that was never interrupted.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends import choose as backends
from mesaopt.backends.native.backend import alone
from mesaopt.data.sequences import inputs_targets
from mesaopt.data.test_sets import fixed_test_batches
from mesaopt.errors import diverged
from mesaopt.process.checkpoint import exclusive, load_checkpoint, save_checkpoint
from mesaopt.process.progress import Progress
from mesaopt.process.stopping import StopRequest
from mesaopt.spec.run import Run
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.store.provenance import provenance
from mesaopt.training.captured import CapturedStep
from mesaopt.training.run_folder import (
    history_table,
    is_finished,
    refuse_diverged,
    remove_leftovers,
    write_divergence,
    write_outputs,
)
from mesaopt.training.state import Record, TrainingState
from mesaopt.training.step import tokens_targets, update

#: a loss beyond this many times that of predicting zero is a divergence; a residual stream that sits at its clip of 4 reaches
#: about fifty times, a healthy training starts at one and falls
SANE_LOSS = 30.0


@dataclass(frozen=True)
class Options:
    """How to train; nothing here may change a result beyond rounding (device, backend) or at all (the rest).

    `checkpoints` is the folder for all runs' checkpoints, `checkpoint_every` in seconds of wall time. With `keep_checkpoint` a
    finished training leaves its last checkpoint, from which the outputs can be written again. `threads` says, step by step, how
    many may compute.
    """

    checkpoints: Path
    checkpoint_every: float = 20.0
    device: str = "cpu"
    backend: str = "auto"
    progress: str = "auto"
    keep_checkpoint: bool = False
    threads: Callable[[], int] = alone


def train(run: Run, folders: Mapping[int, Path], options: Options) -> None:
    """Train one model per seed, all stacked in this process, and write each seed's files into its folder; see `train_with`."""
    train_with(Trainer, run, folders, options)


def train_with(trainer_of: type["Trainer"], run: Run, folders: Mapping[int, Path], options: Options) -> None:
    """Let a trainer of that kind train one model per seed, all stacked in this process, and write each seed's files.

    Goes on from a checkpoint if there is one of this very training. While another process trains the same, waits for it and
    takes what it finished. SIGTERM and SIGINT are obeyed after the current step, with a checkpoint. Raises `DivergenceError`
    when a loss leaves the sane range, now or in an earlier attempt; `InputError` when the disk refuses.
    """
    seeds = list(folders)
    pending = list(folders)
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
        # near the tiny initial weights squared gradients are denormal numbers, which processors handle many times slower
        stack.callback(torch.set_flush_denormal, False)
        torch.set_flush_denormal(True)
        trainer = trainer_of(run, seeds, homes, options)
        for home in homes:
            refuse_diverged(home, trainer.work)
        trainer.loop(stop)
        write_outputs(run, folders, trainer.state, trainer.provenance())
        if not options.keep_checkpoint:
            trainer.checkpoint_path.unlink(missing_ok=True)


class Trainer:
    """One training of stacked seeds: its state, and the tools of the loop."""

    def __init__(self, run: Run, seeds: Sequence[int], homes: Sequence[Path], options: Options) -> None:
        self.run, self.seeds, self.homes, self.options = run, seeds, homes, options
        self.backend = backends.choose(options.backend, run, options.device, options.threads)
        self.state = TrainingState.initial(run, seeds, options.device)
        cuda = options.device == "cuda"
        self.captured = CapturedStep(run, seeds, self.state, self.backend) if cuda else None
        #: what a divergence belongs to; a checkpoint also belongs to what may change the rounding
        self.work = work(run)
        self.computed = {"backend": self.backend.name, "sampler": self.backend.sampler(run.task).name}
        self.identity = self.work | {"seeds": list(seeds), "device": options.device} | self.computed
        self.checkpoint_path = homes[0] / "checkpoint"
        self.tests = fixed_test_batches(run, seeds, options.device)
        self.bound = SANE_LOSS * inputs_targets(self.tests)[1].square().sum(-1).mean((0, 2, 3)) / 2
        self.started, self.seconds_before, self.saved = time.time(), 0.0, time.monotonic()
        self.progress = Progress(run.name, seeds, run.training.steps, options.progress)

    def loop(self, stop: StopRequest) -> None:
        """From the checkpoint, or from the beginning, to the last step."""
        self.restore()
        state, training = self.state, self.run.training
        self.progress.start(state.step, self.options.device, self.backend.name)
        self.saved = time.monotonic()
        while state.step < training.steps:
            self.observe()
            losses = self.step()
            if losses.device.type == "cpu":  # elsewhere looking at every loss would make the device wait
                self.check(losses)
            self.progress.update(state.step)
            self.keep(stop)
        self.observe()
        if self.options.keep_checkpoint:
            self.save()
        self.progress.finished(state.step, self.options.device, self.backend.name)

    def step(self) -> Float[Tensor, " pack"]:
        """One update; returns the loss before it."""
        if self.captured is not None:
            return self.captured()
        return update(self.run, self.seeds, self.state, self.backend)

    def observe(self) -> None:
        """Test loss and snapshot where the present step is due for them; both at the first and at the last step."""
        step, training = self.state.step, self.run.training
        if step in (0, training.steps) or step % training.test_every == 0:
            self.record()
        if training.snapshot_at(step):
            self.state.take_snapshot()

    def keep(self, stop: StopRequest) -> None:
        """Save a checkpoint when it is time, or when the training is to stop; then leave."""
        if stop.signal is not None or time.monotonic() > self.saved + self.options.checkpoint_every:
            self.save()
            self.saved = time.monotonic()
        if stop.signal is not None:
            self.progress.stopped(self.state.step)
            stop.leave()

    def record(self) -> None:
        """Add a row to the history, unless the checkpoint was taken right after it."""
        state = self.state
        if state.history and state.history[-1].step == state.step:
            return
        train_losses = None if state.train_losses is None else state.train_losses.double().tolist()
        by_batch = [self.backend.loss(state.model, *tokens_targets(self.run, batch)) for batch in self.tests]
        losses = torch.stack(by_batch).double().mean(0)
        state.history.append(Record(state.step, train_losses, losses.tolist()))
        self.progress.test_loss(losses.mean().item())
        self.check(losses)

    def check(self, losses: Float[Tensor, " pack"]) -> None:
        """Stop at a loss that is not a number or beyond `SANE_LOSS`: keep the history, drop the checkpoint."""
        for index in torch.nonzero(~(losses <= self.bound)).flatten().tolist():
            seed, loss = self.seeds[index], losses[index].item()
            error = diverged(self.run.name, seed, self.state.step, loss, self.homes[index])
            write_divergence(self.homes[index], self.work, str(error), history_table(self.state.history, index))
            self.checkpoint_path.unlink(missing_ok=True)
            raise error

    def save(self) -> None:
        values, tensors = self.state.to_checkpoint()
        seconds = self.seconds_before + time.time() - self.started
        save_checkpoint(self.checkpoint_path, self.identity, values | {"seconds": seconds}, tensors)

    def restore(self) -> None:
        found = load_checkpoint(self.checkpoint_path, self.identity)
        if found is not None:
            self.state.restore(*found)
            self.seconds_before = found[0]["seconds"]

    def provenance(self) -> dict[str, Any]:
        options = self.options
        name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
        facts = {"device": name, "threads": torch.get_num_threads(), "pack": list(self.seeds), **self.computed}
        return provenance(started=self.started, seconds_before=self.seconds_before, code=self.work["code"], **facts)


def work(run: Run) -> dict[str, str]:
    """What decides the numbers of a training, besides the seed and rounding."""
    return {"spec": run.to_json(), "code": code_fingerprint("mesaopt.training.loop", run.modules())}
