"""Where the kernel's own order of weights finds each of them in PyTorch's (`sizes.h`, packed; `around.h`, Layout)."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from mesaopt.models.transformer import Transformer


def up4(size: int) -> int:
    """The next multiple of four."""
    return -(-size // 4) * 4


def layout(model: Transformer, hidden: int) -> tuple[Int[Tensor, " numbers"], Int[Tensor, " numbers"]]:
    """Of every number in the kernel's order, its place in the first seed's parameters and how far apart seeds are, in a vector of
    all parameters one after the other; -1 and 0 for padding. `hidden`: rows of the kernel's MLP.
    """
    places, apart, start = {}, {}, 0
    for name, parameter in model.named_parameters():
        size = parameter[0].numel()
        places[name] = torch.arange(start, start + size, dtype=torch.int32).view(parameter.shape[1:])
        apart[name] = torch.full_like(places[name], size)
        start += parameter.numel()
    return _packed(model, places, hidden, -1), _packed(model, apart, hidden, 0)


def _packed(model: Transformer, numbers: Mapping[str, Tensor], hidden: int, fill: int) -> Tensor:
    """Numbers by parameter, one seed's, in the kernel's order."""
    spec = model.model
    head, width = up4(spec.d_head), up4(spec.d_model)

    def padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
        return pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0]), value=fill).flatten()

    parts: list[Tensor] = []
    for index, layer in enumerate(model.blocks()):
        of_layer = {name: numbers[f"layers.{index}.{name}"] for name, _ in layer.named_parameters()}
        for q, k, v, o in zip(*(of_layer[name] for name in ("W_Q", "W_K", "W_V", "W_O")), strict=True):
            parts += [*(padded(w[:, : spec.d_model], head, width) for w in (q, k, v)), padded(o, width, head)]
        own = [of_layer[name][None] for name in layer.own] or [q.new_empty(1, 0)]
        parts.append(padded(own[0], 1, up4(spec.n_heads)))
        if spec.d_mlp:
            parts += [padded(w, hidden, width) for w in (of_layer["W_1"], of_layer["W_2"].mT)]
    if spec.tokens == "raw":
        parts += [padded(numbers["embedding"], width, up4(model.n_obs)), padded(numbers["unembedding"], up4(model.n_obs), width)]
    return torch.cat([*parts, *_positions(numbers, spec.d_model, spec.d_pe, padded, head)])


def _positions(
    numbers: Mapping[str, Tensor], d_model: int, d_pe: int, padded: Callable[[Tensor, int, int], Tensor], head: int
) -> list[Tensor]:
    """What the first layer's queries and keys have for positions."""
    if d_pe == 0:
        return []
    pairs = zip(numbers["layers.0.W_Q"], numbers["layers.0.W_K"], strict=True)
    return [padded(w[:, d_model:], head, up4(d_pe)) for pair in pairs for w in pair]
