"""One attention layer with its residual connection, an optional MLP, and clipping: the block a Transformer repeats."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mesaopt.errors import InputError, unknown
from mesaopt.models.attention import unit_norm
from mesaopt.models.kinds import kind_called
from mesaopt.models.projections import linear_map, queries_keys_values
from mesaopt.spec.run import Model

#: what `Block.inner` gives: (pack, batch, heads, time, d_head), (pack, batch, heads, time, time) or (pack, batch, time, d_model)
INNER = ("queries", "keys", "values", "attention_weights", "attention_output")


class Block(nn.Module):
    """e + sum_h W_O_h attention_h(e), then an MLP where the model has one, then the clip; all for `pack` stacked seeds.

    The first layer (`first=True`) reads positional encodings beside the residual stream through W_Q and W_K, and is never
    normalised.
    """

    def __init__(self, model: Model, index: int, pack: int) -> None:
        super().__init__()
        self.kind = kind_called(model.layers[index])
        self.clip = model.clip
        self.normalise = "none" if index == 0 else model.normalise
        d_in = model.d_model + (model.d_pe if index == 0 else 0)
        heads = (pack, model.n_heads)
        self.W_Q = nn.Parameter(torch.zeros(*heads, model.d_head, d_in))
        self.W_K = nn.Parameter(torch.zeros(*heads, model.d_head, d_in))
        self.W_V = nn.Parameter(torch.zeros(*heads, model.d_head, model.d_model))
        self.W_O = nn.Parameter(torch.zeros(*heads, model.d_model, model.d_head))
        self.own = self.kind.own(model)
        for name, parameter in self.own.items():
            setattr(self, name, nn.Parameter(torch.full((pack, *parameter.shape), parameter.start or 0.0)))
        self.has_mlp = model.d_mlp > 0
        if self.has_mlp:
            self.W_1 = nn.Parameter(torch.zeros(pack, model.d_mlp, model.d_model))
            self.W_2 = nn.Parameter(torch.zeros(pack, model.d_model, model.d_mlp))

    def forward(
        self, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> Float[Tensor, "pack batch time d_model"]:
        """`positions` is given to the first layer of a raw-token model, None elsewhere."""
        e = e + self.attention(e, positions)
        if self.has_mlp:
            hidden = nn.functional.gelu(linear_map(e, self.W_1), approximate="tanh")
            e = e + linear_map(hidden, self.W_2)
        return e if self.clip is None else e.clamp(-self.clip, self.clip)

    def attention(
        self, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> Float[Tensor, "pack batch time d_model"]:
        """The layer's attention output, all heads summed, without the residual."""
        q, k, v = self.project(e, positions)
        heads = self.kind.heads(q, k, v, e, self._own())
        return linear_map(heads.transpose(2, 3).flatten(3), self.W_O.transpose(1, 2).flatten(2))

    def attention_weights(
        self, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> Float[Tensor, "pack batch heads time time"]:
        """With what weight each query (row) sums the values of each position (column); raises `InputError` for a kind of layer
        that does not sum values.
        """
        if self.kind.weights is None:
            raise InputError("this kind of layer has no attention weights")
        q, k, v = self.project(e, positions)
        return self.kind.weights(q, k, v, e, self._own())

    def inner(
        self, name: str, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> Float[Tensor, "pack batch ..."]:
        """What the layer computes on its way from e, by name (`INNER`); made anew, so that it costs nothing when nobody asks."""
        if name == "attention_weights":
            return self.attention_weights(e, positions)
        if name == "attention_output":
            return self.attention(e, positions)
        named = dict(zip(("queries", "keys", "values"), self.project(e, positions), strict=True))
        if name not in named:
            raise InputError(unknown(name, "inner activation", list(INNER)))
        return named[name]

    def _own(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.own}

    def project(
        self, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> tuple[Float[Tensor, "pack batch heads time d_head"], ...]:
        """Queries, keys and values of every head, by one matrix product for all of them."""
        d_model = e.shape[-1]
        q, k, v = queries_keys_values(e, self.W_Q[..., :d_model], self.W_K[..., :d_model], self.W_V)
        if positions is not None:
            # the positions' share is the same for every sequence
            q = q + (positions @ self.W_Q[..., d_model:].mT)[:, None]
            k = k + (positions @ self.W_K[..., d_model:].mT)[:, None]
        if self.normalise == "qk":
            return unit_norm(q), unit_norm(k), v
        if self.normalise == "qv":
            return unit_norm(q), k, unit_norm(v)
        return q, k, v
