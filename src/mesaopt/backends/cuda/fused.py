"""A model's losses, gradients and AdamW step as a handful of launches, on arrays that are made once."""

import ctypes
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.cuda.kernels import (
    THREADS,
    Kernels,
    LayoutArguments,
    OptimiseArguments,
    PackArguments,
    PositionArguments,
    ReduceArguments,
    StepArguments,
    TableArguments,
)
from mesaopt.backends.cuda.layout import layout, up4
from mesaopt.backends.cuda.shape import KINDS, Shape
from mesaopt.models.transformer import Transformer, positional_encoding

#: how the kernel makes tokens of observations (`step.h`, Tokens); raw ones are the observations
TOKENS = {"raw": 0, "constructed": 1, "constructed_bare": 2}
#: tokens that are what the model reads
GIVEN = 0
_Arguments = TypeVar("_Arguments", bound=ctypes.Structure)


class Fused:
    """Launches for a pack of models, each on `batch` sequences of one length. Parameters and gradients are vectors that hold one
    parameter after the other, as AdamW's do; what is launched may be captured as a graph.
    """

    def __init__(self, kernels: Kernels, shape: Shape, model: Transformer, batch: int, device: torch.device) -> None:
        self.kernels, self.shape, self.spec, self.pack, self.batch, self.device = (
            kernels,
            shape,
            model.model,
            model.pack,
            batch,
            device,
        )
        own = [parameter for layer in model.blocks() for parameter in layer.own.values()]
        self.lam_floor = max((parameter.floor for parameter in own if parameter.floor is not None), default=0.0)
        self.groups = groups_of(batch, self.pack, kernels.places)
        self.at, self.apart = (x.to(device) for x in layout(model, kernels.sizes.hidden))
        heads, depth, blocks, sizes = self.spec.n_heads, len(self.spec.layers), self.pack * self.groups, kernels.sizes
        of_positions, table = heads * 2 * up4(shape.d_head) * up4(shape.d_pe), sizes.table if shape.d_pe else 0
        numbers = len(self.at) - of_positions
        self.packed, self.positions = self._new(self.pack, numbers), self._new(self.pack, of_positions)
        self.table, self.table_gradient = (self._new(self.pack, heads, table) for _ in range(2))
        self.partials, self.table_partials = self._new(blocks, numbers), self._new(blocks, heads, table)
        self.partial_losses, self.losses = self._new(blocks).double(), self._new(self.pack)
        self.stream, self.kept = self._new(blocks, 2 * depth + 1, sizes.stream), self._new(blocks, depth, heads, sizes.kept)
        self.spill = self._new(blocks, sizes.in_device)
        self.encoding = positional_encoding(shape.time, shape.d_pe).to(device, torch.float32).contiguous()

    def losses_of(
        self, values: Float[Tensor, " parameters"], tokens: Tensor, targets: Tensor, kind: int
    ) -> Float[Tensor, " pack"]:
        """Losses, in memory that the next call overwrites. Of `tokens` and `targets` (pack, batch, ...) each sequence lies in one
        piece; tokens are what the model reads (`kind` GIVEN), or observations of which the kernel makes that (TOKENS).
        """
        self._step(values, tokens, targets, kind, backward=False)
        return self.losses

    def losses_and_gradients(
        self,
        values: Float[Tensor, " parameters"],
        gradients: Float[Tensor, " parameters"],
        tokens: Tensor,
        targets: Tensor,
        kind: int,
    ) -> Float[Tensor, " pack"]:
        """The same, and in `gradients` of each parameter that of its own seed's loss."""
        self._step(values, tokens, targets, kind, backward=True)
        sums = {"partials": self.partials, "table_partials": self.table_partials}
        into = {"gradients": gradients, "table_gradient": self.table_gradient}
        self._launch("reduce", self.at.numel() * self.pack, ReduceArguments, layout=self._layout(), **sums, **into)
        if self.shape.d_pe:
            fields = {"encoding": self.encoding, "table_gradient": self.table_gradient, "gradients": gradients}
            self._launch("position_gradients", self.positions.numel(), PositionArguments, layout=self._layout(), **fields)
        return self.losses

    def _step(self, values: Tensor, tokens: Tensor, targets: Tensor, kind: int, backward: bool) -> None:
        fields = {"values": values, "packed": self.packed, "positions": self.positions}
        self._launch("pack", self.at.numel() * self.pack, PackArguments, layout=self._layout(), **fields)
        table = {"encoding": self.encoding, "positions": self.positions, "table": self.table}
        if self.shape.d_pe:
            self._launch("table", self.table.numel(), TableArguments, heads=self.spec.n_heads, seeds=self.pack, **table)
        sizes = self.kernels.sizes
        arguments = self._step_arguments(tokens, targets, kind, backward)
        self.kernels.launch("step", arguments, self.pack * self.groups, sizes.threads, sizes.shared)
        fields = {"partial_losses": self.partial_losses, "losses": self.losses}
        self._launch("losses", self.pack, ReduceArguments, layout=self._layout(), sequences=self.batch, **fields)

    def _step_arguments(self, tokens: Tensor, targets: Tensor, kind: int, backward: bool) -> StepArguments:
        spec, kinds = self.spec, [KINDS[layer] for layer in self.spec.layers]
        sizes = {"depth": len(kinds), "heads": spec.n_heads, "sequences": self.batch, "groups": self.groups, "kinds": kinds}
        modes = {"tokens_kind": kind, "backward": int(backward), "clip": spec.clip or 0.0, "lam_floor": self.lam_floor}
        data = {"tokens": tokens, "tokens_apart": tokens.stride(1), "targets": targets, "targets_apart": targets.stride(1)}
        weights = {"packed": self.packed, "table": self.table if self.shape.d_pe else None}
        sums = {"partials": self.partials, "table_partials": self.table_partials, "losses": self.partial_losses}
        kept = {"stream": self.stream, "kept": self.kept, "spill": self.spill}
        return filled(StepArguments, **(sizes | modes | data | weights | sums | kept))

    def _layout(self) -> LayoutArguments:
        sizes = {"depth": len(self.spec.layers), "heads": self.spec.n_heads, "seeds": self.pack, "groups": self.groups}
        return filled(LayoutArguments, **sizes, at=self.at, apart=self.apart)

    def _launch(self, name: str, count: int, kind: type[ctypes.Structure], **fields: Any) -> None:
        """A kernel of which every thread of at least `count` has a number to work on."""
        self.kernels.launch(name, filled(kind, **fields), -(-count // THREADS))

    def _new(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.device)


def optimise(
    kernels: Kernels, factors: Float[Tensor, "3"], bound: float, betas: tuple[float, float], epsilon: float, **vectors: Tensor
) -> None:
    """Clip gradients to [-bound, bound] and make AdamW's update of `values` by `gradients`, `mean` and `square`; `factors` in
    float64 are those of `training.optimizer`.
    """
    count = vectors["values"].numel()
    fields = {
        "bound": bound,
        "new_1": 1 - betas[0],
        "beta_2": betas[1],
        "new_2": 1 - betas[1],
        "epsilon": epsilon,
        "factors": factors,
    }
    kernels.launch("optimise", filled(OptimiseArguments, count=count, **fields, **vectors), -(-count // THREADS))


def filled(kind: type[_Arguments], **fields: Any) -> _Arguments:
    """A structure with these fields: of a tensor where it lies, of a list its numbers; the others are zero."""
    arguments = kind()
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(arguments, name)[: len(value)] = value
        else:
            setattr(arguments, name, value.data_ptr() if isinstance(value, Tensor) else value)
    return arguments


def groups_of(sequences: int, pack: int, places: int) -> int:
    """Into how many groups each seed's sequences are dealt, which blocks work off one after another in `places` places: as few as
    take no longer, for each has partial sums of its own.
    """
    each = next(each for each in range(1, sequences + 1) if each == sequences or pack * -(-sequences // each) <= places)
    return -(-sequences // each)
