"""All that a training on text carries from one step to the next, in and out of a checkpoint, and the step itself."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.models.language import LanguageTransformer, decayed, initialise_language
from mesaopt.models.language_measures import loss_curve, perplexity, score, single_score
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.words import module
from mesaopt.training.language_optimizer import LanguageAdamW, learning_rate

#: sequences that have gradients of their own, and what dropout keeps of them
Part = tuple[Int64[Tensor, "_ time_plus_1"], Float[Tensor, "_ time d_model"] | None]
COLUMNS = ("step", "tokens", "train_loss", "test_loss", "perplexity", "score", "single_score")


@dataclass
class LanguageState:
    """State after `step` updates; `history` has a row of `COLUMNS` for every test."""

    run: LanguageRun
    seed: int
    model: LanguageTransformer
    optimizer: LanguageAdamW
    step: int = 0
    train_loss: float | None = None
    history: list[list[Any]] = field(default_factory=list)
    _helper: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, initializer=_like_the_main_thread))

    @classmethod
    def initial(cls, run: LanguageRun, seed: int, vocabulary: int, device: str, mesa_form: str) -> "LanguageState":
        """Freshly drawn weights."""
        model = initialise_language(run.model, vocabulary, run.task.context_length, seed, mesa_form).to(device)
        return cls(run, seed, model, LanguageAdamW(list(model.parameters()), decayed(model, run.training.decay), run.training))

    @property
    def half(self) -> bool:
        """Whether products are in bfloat16: on a GPU."""
        return self.optimizer.values.is_cuda

    def update(self, windows: Int64[Tensor, "batch time_plus_1"], threads: int = 1) -> float:
        """One step on its sequences; returns the mean loss before it.

        On a CPU halves of a batch have gradients of their own, so one thread and two, which take a half each, give the same bits.
        """
        training, loss = self.run.training, 0.0
        self.optimizer.gradients.zero_()
        rng = self._dropout()
        for together in windows.split(training.micro_batch or training.batch):
            parts = [(part, self._kept(part[:, 1:], rng)) for part in ([together] if self.half else together.chunk(2))]
            for part_loss, gradients in self._gradients(parts, windows[:, 1:].numel(), threads):
                self.optimizer.gradients.add_(torch.cat([gradient.flatten() for gradient in gradients]))
                loss += part_loss
        self.optimizer.clip(training.clip)
        self.optimizer.update(self.step, learning_rate(training, self.step * self.run.step_tokens))
        self.step, self.train_loss = self.step + 1, loss
        return loss

    def _gradients(self, parts: list[Part], targets: int, threads: int) -> list[tuple[float, tuple[Tensor, ...]]]:
        """Of every part its share of the mean loss over `targets`, and the gradients of that."""

        def one(part: Part) -> tuple[float, tuple[Tensor, ...]]:
            loss = self._loss(part[0].to(self.optimizer.values.device, non_blocking=True), part[1]) / targets
            return float(loss.detach()), torch.autograd.grad(loss, list(self.model.parameters()))

        if threads == 1 or len(parts) == 1:
            return [one(part) for part in parts]
        second = self._helper.submit(one, parts[1])
        return [one(parts[0]), second.result()]

    def _loss(
        self, windows: Int64[Tensor, "batch time_plus_1"], kept: Float[Tensor, "batch time d_model"] | None
    ) -> Float[Tensor, ""]:
        """Summed over positions and sequences."""
        objective = module("objective", self.run.training.objective)
        inputs, targets = objective.examples(self.run.model, windows)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.half):
            logits = self.model(inputs, kept)
        found: Tensor = objective.total_loss(logits, targets)
        return found

    def _dropout(self) -> torch.Generator:
        """What is dropped is a function of seed and step, as all that is drawn."""
        number = int(generator(self.seed, "dropout", self.step).integers(2**62))
        return torch.Generator(self.optimizer.values.device).manual_seed(number)

    def _kept(self, inputs: Int64[Tensor, "batch time"], rng: torch.Generator) -> Float[Tensor, "batch time d_model"] | None:
        share = 1 - self.run.model.dropout
        if share == 1:
            return None
        drawn = torch.rand(*inputs.shape, self.run.model.d_model, generator=rng, device=self.optimizer.values.device)
        return (drawn < share).float() / share

    def test(self, windows: Int64[Tensor, "batch time_plus_1"]) -> float:
        """Add a row to the history, unless the checkpoint was taken right after it; returns the loss."""
        if not self.history or self.history[-1][0] != self.step:
            curve = loss_curve(self.model, windows, self.run.training.micro_batch or self.run.training.batch, self.half)
            seen = self.step * self.run.step_tokens
            of_curve = [float(curve.mean()), perplexity(curve), score(curve), single_score(curve)]
            self.history.append([self.step, seen, self.train_loss, *of_curve])
        found: float = self.history[-1][3]
        return found

    def table(self) -> pd.DataFrame:
        """Table `language_history`."""
        frame = pd.DataFrame(self.history, columns=list(COLUMNS))
        return frame.assign(train_loss=frame["train_loss"].astype(np.float64))

    def to_checkpoint(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What JSON can hold, and tensors."""
        return {"step": self.step, "train_loss": self.train_loss, "history": self.history}, self.optimizer.state()

    def restore(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Become the state that `to_checkpoint` was called on, bit for bit."""
        self.step, self.train_loss, self.history = values["step"], values["train_loss"], values["history"]
        self.optimizer.restore(tensors)


def _like_the_main_thread() -> None:
    """What PyTorch keeps by thread: no threads below this one, and denormal numbers are zero as `train_language` has it."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
