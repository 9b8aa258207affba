"""Language models like GPT-2 (paper, appendix on language modelling): token vectors, positions, blocks, an output embedding."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from mesaopt.data.random import generator
from mesaopt.models.language_block import MESA_FORMS, LanguageBlock
from mesaopt.models.transformer import check_weights, positional_encoding
from mesaopt.spec.language import LanguageModel


class LanguageTransformer(nn.Module):
    """Logits of the next token at every position. Weights start at zero (`initialise_language` draws them)."""

    def __init__(self, model: LanguageModel, vocabulary: int, length: int, mesa_form: str = MESA_FORMS[0]) -> None:
        super().__init__()
        self.model, self.vocabulary, self.length = model, vocabulary, length
        self.tokens = nn.Parameter(torch.zeros(vocabulary, model.d_model))
        if model.positions == "learned":
            self.places = nn.Parameter(torch.zeros(length, model.d_model))
        elif model.positions == "sinusoidal":
            self.register_buffer("places", positional_encoding(length, model.d_model), persistent=False)
        self.layers = nn.ModuleList(LanguageBlock(model, index, mesa_form) for index in range(len(model.layers)))
        self.norm = nn.LayerNorm(model.d_model, bias=model.biases == "all")
        # with tied vectors a square matrix stands between stream and logits
        rows = vocabulary if model.output == "untied" else model.d_model
        self.output = nn.Parameter(torch.zeros(rows, model.d_model))

    def blocks(self) -> list[LanguageBlock]:
        """The layers, first to last."""
        return cast(list[LanguageBlock], list(self.layers))

    def forward(
        self, tokens: Integer[Tensor, "batch time"], kept: Float[Tensor, "batch time d_model"] | None = None
    ) -> Float[Tensor, "batch time vocabulary"]:
        """Logits. `kept` is the mask of dropout, already divided by the share that is kept (None: nothing is dropped)."""
        e = self.embed(tokens)
        if kept is not None:
            e = e * kept
        for block in self.blocks():
            e = block(e)
        return self.read_out(e)

    def embed(self, tokens: Integer[Tensor, "batch time"]) -> Float[Tensor, "batch time d_model"]:
        """The stream before the first layer."""
        e = self.tokens[tokens] * (self.model.embedding_scale * math.sqrt(self.model.d_model))
        if self.model.positions != "none":
            e = e + self.model.position_scale * cast(Tensor, self.places)[: tokens.shape[1]].to(e.dtype)
        return e

    def read_out(self, e: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time vocabulary"]:
        """Logits that a stream stands for."""
        e = nn.functional.linear(self.norm(e), self.output)
        return e if self.model.output == "untied" else nn.functional.linear(e, self.tokens)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Set all weights by name; raises `InputError` when names or shapes differ."""
        expected = {name: parameter.shape for name, parameter in self.named_parameters()}
        check_weights({name: tensor.shape for name, tensor in weights.items()}, expected)
        for name, parameter in self.named_parameters():
            parameter.copy_(weights[name])

    def weights(self) -> dict[str, Tensor]:
        """All weights by name."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}


def initialise_language(
    model: LanguageModel, vocabulary: int, length: int, seed: int, mesa_form: str = MESA_FORMS[0]
) -> LanguageTransformer:
    """Matrices of N(0, init_std^2), those in front of a residual sum by sqrt(2 N), N layers; biases 0, norms 1, and what kinds of
    layers fix. A pure function of the seed: matrices are drawn in the order of their names.
    """
    made = LanguageTransformer(model, vocabulary, length, mesa_form)
    rng, residual = generator(seed, "init"), math.sqrt(2 * len(model.layers))
    fixed = {
        f"layers.{i}.{name}" for i, block in enumerate(made.blocks()) for name, own in block.own.items() if own.start is not None
    }
    drawn = sorted(name for name, p in made.named_parameters() if name not in fixed and (p.ndim > 1 or name.endswith("w_beta")))
    for name, parameter in made.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
    for name in drawn:
        parameter = made.get_parameter(name)
        std = model.init_std / (residual if name.endswith((".out.weight", ".outer.weight")) else 1.0)
        draws = rng.standard_normal(tuple(parameter.shape), dtype=np.float32)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.float32(std) * draws))
    return made


def decayed(model: LanguageTransformer, decay: str) -> list[bool]:
    """Which parameters weight decay holds for, in their order: all, or the matrices of layers and output alone."""
    names = [name for name, _ in model.named_parameters()]
    return [decay == "all" or _is_matrix(name, model.get_parameter(name)) for name in names]


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and name not in ("tokens", "places")


def parameter_count(model: nn.Module, without: Sequence[str] = ()) -> int:
    """Numbers that are learned."""
    return sum(p.numel() for name, p in model.named_parameters() if name not in without)
