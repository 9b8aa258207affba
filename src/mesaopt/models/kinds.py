"""What a file in `layers` calls KIND: the equation of an attention layer, and its parameters beyond W_Q, W_K, W_V and W_O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from mesaopt.spec.run import Model
from mesaopt.spec.words import module

#: a layer's own parameters by name, those of stacked seeds side by side: (pack, *shape)
Parameters = Mapping[str, Tensor]


@runtime_checkable
class Equation(Protocol):
    """Of q, k, v (pack, batch, heads, time, d_head), the layer's input e (pack, batch, time, d_model), and its own parameters."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, e: Tensor, own: Parameters) -> Tensor: ...


@dataclass(frozen=True)
class Own:
    """A parameter of one seed: its shape, where it starts (None: drawn like all weights), and what it may not fall below."""

    shape: tuple[int, ...]
    start: float | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Kind:
    """`heads` gives every head's answers (pack, batch, heads, time, d_head); `weights` the weights with which they sum values,
    (pack, batch, heads, time, time), row t the query's: None where there are no such weights.

    Plain operations of PyTorch will do; `models.by_hand` is for an equation with a faster gradient. Both work under `torch.func`.
    """

    heads: Equation
    weights: Equation | None = None
    own: Callable[[Model], dict[str, Own]] = field(default=lambda model: {})


def kind_called(name: str) -> Kind:
    """The kind of layer that a spec names; raises `InputError` when there is no such file."""
    found: Kind = module("layer", name).KIND
    return found
