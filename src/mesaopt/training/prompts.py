"""Tuning the tokens of a prompt by gradient descent on the error of labels; the model is frozen (paper, section on few-shot
regression: prompt tuning).

Separators come first; then a prefix is tuned with them in place and frozen. Batches are a pure function of (seed, kind, step).
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mesaopt.backends.native.frozen import FrozenModel, frozen_model
from mesaopt.data.prompts import Form, Prompt, one_task
from mesaopt.data.random import generator, normal
from mesaopt.data.sequences import training_batch
from mesaopt.data.tokens import tokenise
from mesaopt.models.transformer import Transformer
from mesaopt.spec.analysis import Prompts
from mesaopt.spec.run import Run, Task
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.training.descent import Checkpoints, Settings, descend
from mesaopt.training.fitting import ALONE, Kept, history

#: tuned tokens by kind, `separator` and `prefix`
Tokens = dict[str, Float[Tensor, "_ n"]]

#: most pairs of positions at a time on a CPU, so that what forward and backward work on stays in cache; layers that solve a small
#: system per sequence and position need more sequences at a time to be worth the calls
_PAIRS, _LEAST_WITH_RECURSION = 400_000, 64


def forms(separators: int, prefix: int) -> dict[str, Form]:
    """Prompts by what is tuned for them, in this order."""
    found = {"separator": Form(separators=separators), "prefix": Form(prefix, separators)}
    return {kind: form for kind, form in found.items() if kind == "separator" or prefix}


def label_errors(
    model: Transformer, prompt: Prompt, tasks: Float[Tensor, "tasks batch elements n"], tokens: Tokens
) -> Float[Tensor, "batch scored"]:
    """Half the squared error of the label, summed over channels, at every x of the prompt; `model` is a pack of one."""
    inputs = prompt.inputs(tasks, tokens)
    predictions = model(tokenise(inputs, model.model.tokens)[None])[0]
    return (predictions[:, prompt.scored] - prompt.labels(tasks)).square().sum(-1) / 2


def tune(
    run: Run, seed: int, model: Transformer, task: Task, settings: Prompts, kept: Kept = ALONE, backend: str = "auto"
) -> tuple[Tokens, pd.DataFrame]:
    """The tuned tokens of the trained `model` of a run and seed, and the table `tuning`. No weight of the model changes.

    `task` makes the pairs. An interrupted tuning with checkpoints goes on from the last one. Native code computes errors and
    gradients on a CPU unless `backend` says otherwise. Raises `DivergenceError` when the loss is no longer finite.
    """
    model.requires_grad_(False)
    embedded = model.model.tokens == "raw"
    native = frozen_model(model, task.context_length, backend, f"{run.name}: its prompts") if embedded else None
    batches = {"separator": settings.separator_batch, "prefix": settings.prefix_batch}
    tokens: Tokens = {}
    histories = []
    for kind, form in forms(settings.separators, settings.prefix).items():
        problem = Tuning(model, task, seed, kind, form, batches[kind], dict(tokens), native)
        parameter = Parameter(problem.start())
        checkpoints = _checkpoints(run, problem, settings, kept)
        loss, descent = functools.partial(problem.loss, tokens=parameter), Settings(settings.steps, settings.lr)
        losses = descend([parameter], loss, descent, f"{run.name} seed {seed}: {kind} of its prompts", checkpoints)
        tokens[kind] = parameter.detach().clone()
        histories.append(history(losses).assign(token=kind))
    return tokens, pd.concat(histories, ignore_index=True)


@dataclass(frozen=True)
class Tuning:
    """The loss of the tokens of one kind, those of the other kind being given (`frozen`), by `native` code or by PyTorch."""

    model: Transformer
    task: Task
    seed: int
    kind: str
    form: Form
    batch: int
    frozen: Tokens
    native: FrozenModel | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def start(self) -> Float[Tensor, "number n"]:
        """N(0, 1) in every channel."""
        number = self.form.prefix if self.kind == "prefix" else self.form.separators
        return normal(generator(self.seed, f"prompt_{self.kind}_start"), number, self.task.n_obs).to(self.device)

    def loss(self, step: int, tokens: Parameter) -> Float[Tensor, ""]:
        """Error of labels, mean over sequences and pairs; adds to the gradient of `tokens`."""
        prompt = Prompt(one_task(self.form, self.task.context_length))
        pairs = training_batch(self.task, [self.seed], self.batch, f"prompt_{self.kind}", step, self.device.type)
        if self.native is not None:
            return self._native_loss(self.native, prompt, pairs, tokens)
        total = torch.zeros((), device=self.device)
        for part in self._parts(pairs):
            errors = label_errors(self.model, prompt, part, {**self.frozen, self.kind: tokens})
            loss = errors.sum() / (self.batch * len(prompt.scored))
            loss.backward()
            total += loss.detach()
        return total

    def _native_loss(
        self, native: FrozenModel, prompt: Prompt, pairs: Float[Tensor, "one batch elements n"], tokens: Parameter
    ) -> Tensor:
        """A tuned token enters every sequence alike, so that one sequence passes on the gradient of all."""
        with torch.no_grad():
            inputs = prompt.inputs(pairs, {**self.frozen, self.kind: tokens})
        error, d_stream = native.stream_gradient(inputs, prompt.labels(pairs), prompt.scored)
        count = self.batch * len(prompt.scored)
        one = prompt.inputs(pairs[:, :1], {**self.frozen, self.kind: tokens})
        one.backward((d_stream @ self.model.embedding[0] / count)[None])
        return torch.tensor(error / count)

    def _parts(self, pairs: Float[Tensor, "one batch elements n"]) -> Iterator[Tensor]:
        least = _LEAST_WITH_RECURSION if set(self.model.model.layers) - {"softmax", "linear"} else 1
        size = max(least, _PAIRS // self.task.context_length**2) if pairs.device.type == "cpu" else self.batch
        yield from pairs.split(size, dim=1)


def _checkpoints(run: Run, problem: Tuning, settings: Prompts, kept: Kept) -> Checkpoints | None:
    """Those of one kind of tokens; they belong to the weights and frozen tokens as well."""
    identity = {
        "spec": run.to_json(),
        "task": problem.task.to_json(),
        "settings": settings.to_json(),
        "seed": problem.seed,
        "code": code_fingerprint("mesaopt.training.prompts", (*run.modules(), *problem.task.modules())),
        "device": problem.device.type,
        "backend": "torch" if problem.native is None else "native",
    }
    return kept.checkpoints(problem.kind, identity, [*problem.model.parameters(), *problem.frozen.values()])
