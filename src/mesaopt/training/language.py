"""Training on text (paper, appendix on language modelling): the loop, and what makes it survive interruptions.

A step takes sequences from random places of the training text. Places and dropout are functions of (seed, step), so a training
that goes on from a checkpoint ends, on a CPU, with the same bits as one that was never interrupted.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mesaopt.data.windows import Tokens
from mesaopt.errors import InputError, diverged
from mesaopt.models.language_block import MESA_FORMS
from mesaopt.models.weights import save_weights
from mesaopt.process.checkpoint import exclusive, load_checkpoint, save_checkpoint
from mesaopt.process.progress import Progress
from mesaopt.process.stopping import StopRequest
from mesaopt.spec.cost import duration
from mesaopt.spec.language import LanguageRun, read_language_run
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.store.provenance import provenance, write_json
from mesaopt.store.tables import atomic_path, write_table
from mesaopt.training.language_state import LanguageState
from mesaopt.training.run_folder import refuse_diverged, write_divergence

#: a loss beyond this many times that of predicting nothing, log(vocabulary), is a divergence
SANE_LOSS = 10.0
TEST_SEED = 0
OUTPUTS = ("spec.json", "language_history.parquet", "provenance.json", "weights.safetensors")


@dataclass(frozen=True)
class LanguageOptions:
    """How to train; nothing here may change a result beyond rounding. `checkpoints` is the folder of all runs' checkpoints;
    `threads` says, step by step, how many threads may compute on a CPU: two are of use, and change no bit.
    """

    checkpoints: Path
    checkpoint_every: float = 60.0
    device: str = "cpu"
    mesa_form: str = MESA_FORMS[0]
    progress: str = "auto"
    threads: Callable[[], int] = lambda: 1


def train_language(run: LanguageRun, seed: int, tokens: Path, folder: Path, options: LanguageOptions) -> None:
    """Train one seed on the text at `tokens` (FOLDER/tokens.json), and write its files into its folder, weights last.

    Goes on from a checkpoint of this very training. SIGTERM and SIGINT are obeyed after the current step, with a checkpoint.
    Raises `DivergenceError`, with step and seed, when a loss leaves the sane range, now or in an earlier attempt.
    """
    home = options.checkpoints / run.name / f"seed-{seed}"
    with contextlib.ExitStack() as stack:
        waited = stack.enter_context(exclusive(home, f"{run.name} seed {seed}"))
        work = {"spec": run.to_json(), "code": code_fingerprint("mesaopt.training.language", run.modules())}
        if waited and _is_finished(run, seed, folder, work):
            return
        _remove_leftovers(folder)
        stop = stack.enter_context(StopRequest())
        stack.callback(torch.set_flush_denormal, False)
        torch.set_flush_denormal(True)
        refuse_diverged(home, work)
        trainer = LanguageTrainer(run, seed, tokens, home, options, work)
        trainer.loop(stop)
        trainer.write(folder)
        trainer.checkpoint.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Half-written files of a killed trainer; digests and records, which have such names, too, stay."""
    for leftover in (path for name in OUTPUTS for path in folder.glob(f".{name}.*")):
        if leftover.suffix not in (".sha256", ".json"):
            leftover.unlink(missing_ok=True)


def _is_finished(run: LanguageRun, seed: int, folder: Path, work: dict[str, str]) -> bool:
    try:
        same = read_language_run(folder / "weights.safetensors") == (run, seed)
        code = json.loads((folder / "provenance.json").read_text()).get("code")
    except (OSError, ValueError, InputError):
        return False
    return same and code == work["code"] and (folder / "weights.safetensors").exists()


class TokenProgress(Progress):
    """Says tokens instead of steps a second, and when the end is expected."""

    def __init__(self, run: LanguageRun, seed: int, mode: str) -> None:
        super().__init__(run.name, [seed], run.steps, mode)
        self.step_tokens = run.step_tokens

    def _speed(self, step: int) -> str:
        rate = (step - self.first) / max(time.monotonic() - self.since, 1e-9)
        left = f", about {duration((self.total - step) / rate)} left" if rate and step < self.total else ""
        return f"{rate * self.step_tokens:,.0f} tokens/s{left}"


class LanguageTrainer:
    """One training: its state, its text, and the tools of the loop."""

    def __init__(
        self, run: LanguageRun, seed: int, tokens: Path, home: Path, options: LanguageOptions, work: dict[str, str]
    ) -> None:
        self.run, self.seed, self.home, self.options, self.work = run, seed, home, options, work
        self.text = Tokens(tokens, "train", run.task)
        self.tests = Tokens(tokens, "validation", run.task).windows(TEST_SEED, "test", 0, run.training.test_sequences)
        self.state = LanguageState.initial(run, seed, self.text.vocabulary_size, options.device, options.mesa_form)
        self.computed = {"mesa_form": options.mesa_form} if "mesa" in run.model.layers else {}
        self.identity = work | {"seed": seed, "device": options.device, "tokens": self.text.digest} | self.computed
        self.checkpoint = home / "checkpoint"
        self.started, self.seconds_before, self.saved = time.time(), 0.0, time.monotonic()
        self.progress = TokenProgress(run, seed, options.progress)

    def loop(self, stop: StopRequest) -> None:
        """From the checkpoint, or from the beginning, to the last step."""
        if (found := load_checkpoint(self.checkpoint, self.identity)) is not None:
            self.state.restore(*found)
            self.seconds_before = found[0]["seconds"]
        how = f"PyTorch{', mesa-layers ' + self.options.mesa_form if self.computed else ''}"
        self.progress.start(self.state.step, self.options.device, how)
        self.saved = time.monotonic()
        while self.state.step < self.run.steps:
            self._test_if_due()
            windows = self.text.windows(self.seed, "text", self.state.step, self.run.training.batch)
            self._check(self.state.update(windows, self.options.threads()))
            self.progress.update(self.state.step)
            self._keep(stop)
        self._test_if_due()
        self.progress.finished(self.state.step, self.options.device, how)

    def _test_if_due(self) -> None:
        step = self.state.step
        if step % self.run.training.test_every == 0 or step == self.run.steps:
            loss = self.state.test(self.tests)
            self.progress.test_loss(loss)
            self._check(loss)

    def _keep(self, stop: StopRequest) -> None:
        """Save a checkpoint when it is time, or when the training is to stop; then leave."""
        if stop.signal is not None or time.monotonic() > self.saved + self.options.checkpoint_every:
            values, tensors = self.state.to_checkpoint()
            seconds = self.seconds_before + time.time() - self.started
            save_checkpoint(self.checkpoint, self.identity, values | {"seconds": seconds}, tensors)
            self.saved = time.monotonic()
        if stop.signal is not None:
            self.progress.stopped(self.state.step)
            stop.leave()

    def _check(self, loss: float) -> None:
        """Stop at a loss that is not a number or beyond `SANE_LOSS`: keep the history, drop the checkpoint."""
        if loss <= SANE_LOSS * math.log(self.text.vocabulary_size):
            return
        error = diverged(self.run.name, self.seed, self.state.step, loss, self.home)
        history = self.state.table()[["step", "train_loss", "test_loss"]]
        write_divergence(self.home, self.work, str(error), history)
        self.checkpoint.unlink(missing_ok=True)
        raise error

    def write(self, folder: Path) -> None:
        """The settings, the history, where all comes from, and the weights."""
        with atomic_path(folder / "spec.json") as temporary:
            said = self.run.to_dict() | {"seed": self.seed}
            temporary.write_text(json.dumps(said, sort_keys=True, separators=(",", ":")) + "\n")
        write_table(self.state.table(), "language_history", folder / "language_history.parquet")
        write_json(folder / "provenance.json", self._provenance())
        save_weights(self.state.model.weights(), folder / "weights.safetensors")

    def _provenance(self) -> dict[str, Any]:
        device = torch.cuda.get_device_name() if self.options.device == "cuda" else "cpu"
        facts = {"device": device, "threads": torch.get_num_threads(), "pack": [self.seed], "tokens": self.text.digest}
        facts |= {"run": self.run.name, "seed": self.seed, "code": self.work["code"], **self.computed}
        return provenance(started=self.started, seconds_before=self.seconds_before, **facts)
