"""Linear attention layers distilled from the softmax layers of a trained model (paper, section on linearisation).

Each linear layer learns to give, for the input of a softmax layer in the frozen model, that layer's attention output (after W_O,
without the residual stream). One pass of the frozen model serves all layers, which know nothing of each other: weights of layers
of the same shape stand side by side in a pack; the optimiser and the clipping are elementwise. The first layer keeps its
positions.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mesaopt.backends.native.backend import NativeBackend
from mesaopt.backends.native.frozen import FrozenModel, frozen_model
from mesaopt.data.random import generator, normal
from mesaopt.data.sequences import inputs_targets, training_batch
from mesaopt.data.tokens import tokenise
from mesaopt.models.block import Block
from mesaopt.models.transformer import Transformer, kept_encoding
from mesaopt.spec.analysis import Distil
from mesaopt.spec.run import Model, Run
from mesaopt.spec.words import module_name
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.training.descent import Settings, descend
from mesaopt.training.fitting import ALONE, Kept, history

NAMES = ("W_Q", "W_K", "W_V", "W_O")
GRADIENT_CLIP = 1.0
#: weights of linear layers by start and number (from 0) of the layer that they stand for
LinearLayers = dict[tuple[str, int], dict[str, Tensor]]

#: most pairs of positions at a time on a CPU, over all layers of a pack
_PAIRS = 800_000
#: eigenvalues below this part of the largest count as zero in the least squares of W_O, all channels having been scaled alike
_CUT_OFF = 1e-8

#: of every layer, its input and its attention output: (1, batch, time, d_model) each
Recorded = list[tuple[Tensor, Tensor]]


def recorded(model: Transformer, tokens: Float[Tensor, "one batch time token"]) -> Recorded:
    """One pass of a model without MLPs."""
    e, found = model.embed(tokens), []
    positions = positions_of(model, e)
    for layer in model.blocks():
        output = layer.attention(e, positions)
        found.append((e, output))
        e, positions = e + output, None
        e = e if layer.clip is None else e.clamp(-layer.clip, layer.clip)
    return found


def positions_of(model: Transformer, e: Float[Tensor, "one batch time d_model"]) -> Float[Tensor, "time d_pe"] | None:
    """What the first layer reads beside the stream e."""
    return kept_encoding(e.shape[2], model.model.d_pe, e.dtype, e.device) if model.model.d_pe else None


@dataclass(frozen=True)
class Group:
    """Linear layers of the same shapes: of every start those that stand for the layers `numbers`, side by side in `block`."""

    starts: tuple[str, ...]
    numbers: Sequence[int]
    block: Block

    def attention(self, inputs: Float[Tensor, "pack batch time d_model"], positions: Tensor | None) -> Tensor:
        """Attention outputs; positions are read by the first layer alone."""
        return self.block.attention(inputs, positions if self.numbers[0] == 0 else None)

    def heads(self, inputs: Float[Tensor, "pack batch time d_model"], positions: Tensor | None) -> Tensor:
        """What W_O is applied to: the answers of all heads beside each other, (pack, batch, time, heads * d_head)."""
        q, k, v = self.block.project(inputs, positions if self.numbers[0] == 0 else None)
        return self.block.kind.heads(q, k, v, inputs, {}).transpose(2, 3).flatten(3)

    def side_by_side(self, seen: Recorded) -> tuple[Float[Tensor, "pack batch time d_model"], ...]:
        """Inputs and outputs of the layers that each member stands for."""
        several = len(self.starts)
        return tuple(torch.cat([seen[number][i] for number in self.numbers]).repeat(several, 1, 1, 1) for i in (0, 1))

    def members(self) -> Iterator[tuple[tuple[str, int], int]]:
        """(start, number) of every member, and its place in the pack."""
        yield from (((start, n), i) for i, (start, n) in enumerate((s, n) for s in self.starts for n in self.numbers))

    def alone(self) -> Iterator[tuple[Transformer, int]]:
        """Every member as a model of one layer that reads a residual stream and predicts all its channels, its parameters and
        gradients being those of the pack (only until an optimiser lays them out anew), and the number of the layer.
        """
        for (_, number), place in self.members():
            model = one_layer(self.block)
            (layer,) = model.blocks()
            for name in NAMES:
                parameter = getattr(self.block, name)
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                own = Parameter(parameter.detach()[place : place + 1], requires_grad=False)
                own.grad = parameter.grad[place : place + 1]
                setattr(layer, name, own)
            yield model, number


def one_layer(block: Block) -> Transformer:
    """A linear layer whose input is the residual stream. Where it reads positions, which models of embedded tokens do alone, the
    embedding is the identity.
    """
    _, heads, d_model, d_head = block.W_O.shape
    d_pe = block.W_Q.shape[3] - d_model
    tokens = "raw" if d_pe else "constructed"
    model = Transformer(Model(("linear",), tokens, d_model, heads, d_head, init_std=1.0, d_pe=d_pe), d_model)
    if d_pe:
        model.embedding.data, model.unembedding.data = torch.eye(d_model)[None], torch.eye(d_model)[None]
    return model


def make_groups(model: Transformer, starts: tuple[str, ...]) -> list[Group]:
    """All linear layers for the softmax layers of a model, zero as yet; the first is apart if it reads positions."""
    numbers = list(range(len(model.model.layers)))
    apart = [numbers[:1], numbers[1:]] if model.model.d_pe and len(numbers) > 1 else [numbers]
    linear = replace(model.model, layers=("linear",) * len(numbers))
    device = next(model.parameters()).device
    return [Group(starts, of, Block(linear, of[0], len(starts) * len(of)).to(device)) for of in apart]


def distil(
    run: Run, seed: int, model: Transformer, settings: Distil, kept: Kept = ALONE, backend: str = "auto"
) -> tuple[LinearLayers, pd.DataFrame]:
    """Linear layers for all softmax layers of the trained `model` of a run and seed, and the table `distillation`.

    An interrupted distillation with checkpoints goes on from the last one. Native code computes losses and gradients on a CPU
    unless `backend` says otherwise. Raises `DivergenceError` when the loss is no longer finite.
    """
    model.requires_grad_(False)
    native = frozen_model(model, run.task.context_length, backend, f"{run.name}: its linear layers")
    problem = Distillation(run, seed, model, settings, make_groups(model, settings.starts), native)
    problem.start()
    identity = {
        "spec": run.to_json(),
        "settings": settings.to_json(),
        "seed": seed,
        "code": code_fingerprint("mesaopt.training.distillation", (*run.modules(), module_name("layer", "linear"))),
        "device": next(model.parameters()).device.type,
        "backend": "torch" if native is None else "native",
    }
    checkpoints = kept.checkpoints("distillation", identity, model.parameters())
    parameters = [parameter for group in problem.groups for parameter in group.block.parameters()]
    descent = Settings(settings.steps, settings.lr, settings.weight_decay, clip=GRADIENT_CLIP)
    losses = descend(parameters, problem.loss, descent, f"{run.name} seed {seed}: its linear layers", checkpoints)
    return problem.linear_layers(), history(losses)


@dataclass(frozen=True)
class Distillation:
    """The losses of all linear layers, by `native` code or by PyTorch, and where they start."""

    run: Run
    seed: int
    model: Transformer
    settings: Distil
    groups: list[Group]
    native: FrozenModel | None = None

    def loss(self, step: int) -> Float[Tensor, ""]:
        """Half the squared error of attention outputs, summed over channels, starts and layers, mean over positions and
        sequences; adds to the gradients.
        """
        batch = self.settings.batch
        if self.native is not None:
            return self._native_loss(self.native, step)
        total = torch.zeros((), device=next(self.model.parameters()).device)
        for tokens in self._tokens("distil", step, batch):
            seen = self._record(tokens)
            for group in self.groups:
                inputs, outputs = group.side_by_side(seen)
                errors = group.attention(inputs, positions_of(self.model, tokens)) - outputs
                loss = errors.square().sum() / (2 * batch * tokens.shape[2])
                loss.backward()
                total += loss.detach()
        return total

    @torch.no_grad()
    def _native_loss(self, native: FrozenModel, step: int) -> Float[Tensor, ""]:
        """Every linear layer is a model of its own, whose target is the stream that the softmax layer leaves."""
        entered, left = native.streams(self._drawn("distil", step, self.settings.batch)[0])
        backend = NativeBackend()
        losses = [backend.loss_and_gradients(alone, entered[number, None], left[number, None]) for alone, number in self._alone]
        return torch.cat(losses).sum()

    @functools.cached_property
    def _alone(self) -> list[tuple[Transformer, int]]:
        """Every linear layer as a model, and the number of its layer; made when the optimiser has laid out all parameters."""
        return [one for group in self.groups for one in group.alone()]

    @torch.no_grad()
    def start(self) -> None:
        """Sets all weights to where their start says."""
        for group in self.groups:
            weights = [self._start(start, number) for (start, number), _ in group.members()]
            for name in NAMES:
                getattr(group.block, name).copy_(torch.stack([of[name] for of in weights]))
        fitted = [self._least_squares(index) for index in range(len(self.groups))] if "softmax" in self.settings.starts else []
        for group, W_O in zip(self.groups, fitted, strict=False):
            for (start, _), place in group.members():
                if start == "softmax":
                    group.block.W_O[place] = W_O[place]

    def _start(self, start: str, number: int) -> dict[str, Tensor]:
        """Weights of one layer: those of the softmax layer, whose scale is taken into W_Q, or random ones."""
        layer = self.model.blocks()[number]
        weights = {name: getattr(layer, name)[0].detach() for name in NAMES}
        if start == "softmax":
            return weights | {"W_Q": weights["W_Q"] / math.sqrt(self.run.model.d_head)}
        rng = generator(self.seed, "distil_start", number)
        return {name: (self.settings.init_std * normal(rng, *of.shape)).to(of) for name, of in weights.items()}

    def _least_squares(self, index: int) -> Float[Tensor, "pack heads d_model d_head"]:
        """The W_O of every member that is best with its other weights, on recorded pairs; by normal equations in float64."""
        group = self.groups[index]
        squares: Tensor | float = 0.0
        products: Tensor | float = 0.0
        for tokens in self._tokens("distil_record", 0, self.settings.recorded):
            inputs, outputs = group.side_by_side(self._record(tokens))
            answers = group.heads(inputs, positions_of(self.model, tokens)).flatten(1, 2).double()
            squares = squares + answers.mT @ answers
            products = products + answers.mT @ outputs.flatten(1, 2).double()
        assert isinstance(squares, Tensor) and isinstance(products, Tensor)
        scale = squares.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(torch.finfo(torch.float64).tiny ** 0.5)
        balanced = squares / (scale[..., None] * scale[..., None, :])
        solved = torch.linalg.pinv(balanced, rtol=_CUT_OFF, hermitian=True) @ (products / scale[..., None]) / scale[..., None]
        W_O = group.block.W_O
        return solved.mT.unflatten(2, (W_O.shape[1], W_O.shape[3])).transpose(1, 2).to(W_O)

    @torch.no_grad()
    def _record(self, tokens: Float[Tensor, "one batch time token"]) -> Recorded:
        return recorded(self.model, tokens)

    def _tokens(self, stream: str, step: int, batch: int) -> Iterator[Float[Tensor, "one part time token"]]:
        """What the model reads of a batch, part by part."""
        tokens = self._drawn(stream, step, batch)
        members = max(len(list(group.members())) for group in self.groups)
        size = max(1, _PAIRS // (tokens.shape[2] ** 2 * members)) if tokens.device.type == "cpu" else batch
        yield from tokens.split(size, dim=1)

    def _drawn(self, stream: str, step: int, batch: int) -> Float[Tensor, "one batch time token"]:
        """What the model reads of a whole batch."""
        device = next(self.model.parameters()).device.type
        observations = training_batch(self.run.task, [self.seed], batch, stream, step, device)
        return tokenise(inputs_targets(observations)[0], self.run.model.tokens)

    def linear_layers(self) -> LinearLayers:
        """All weights, as they are now."""
        return {
            key: {name: getattr(group.block, name).detach()[place].clone() for name in NAMES}
            for group in self.groups
            for key, place in group.members()
        }
