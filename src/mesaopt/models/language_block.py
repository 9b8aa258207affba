"""The block of language models: layer normalisation and attention, then layer normalisation and an MLP, each added to the stream.

Queries and keys of every kind of layer but softmax are mapped by DPFP and divided by their norm. The kinds are those of
`models/layers`, for which a model is a pack of one.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mesaopt.errors import InputError
from mesaopt.models.attention import linear_attention
from mesaopt.models.chunked_linear import chunked_linear
from mesaopt.models.chunked_mesa import chunked_mesa
from mesaopt.models.features import divided_by_norm, dpfp
from mesaopt.models.kinds import kind_called
from mesaopt.spec.language import LanguageModel

Heads = Float[Tensor, "batch heads time d_head"]

#: kinds that stay what they are in half precision; the others are computed in full, whatever autocast says
HALF = ("softmax", "linear")
#: how a mesa-layer is computed: a run of positions at a time (faster at all sizes that were tried), or position by position
MESA_FORMS = ("chunked", "recursion")


class LanguageBlock(nn.Module):
    """Layer `index` of a model."""

    def __init__(self, model: LanguageModel, index: int, mesa_form: str) -> None:
        super().__init__()
        self.model, self.name, self.mesa_form = model, model.layers[index], mesa_form
        self.shift = model.key_shift if index == 0 else "none"
        self.kind, bias, width = kind_called(self.name), model.biases == "all", model.n_heads * model.d_head
        self.norm_1 = nn.LayerNorm(model.d_model, bias=bias)
        self.queries, self.keys, self.values = (nn.Linear(model.d_model, width, bias=bias) for _ in range(3))
        self.out = nn.Linear(width, model.d_model, bias=bias)
        self.own = self.kind.own(model.plain)
        for name, parameter in self.own.items():
            setattr(self, name, nn.Parameter(torch.full(parameter.shape, parameter.start or 0.0)))
        if model.d_mlp:
            self.norm_2 = nn.LayerNorm(model.d_model, bias=bias)
            self.inner = nn.Linear(model.d_model, model.d_mlp, bias=bias)
            self.outer = nn.Linear(model.d_mlp, model.d_model, bias=bias)

    def forward(self, e: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time d_model"]:
        """The stream after the block."""
        e = e + self.attention(self.norm_1(e))
        if self.model.d_mlp:
            hidden = self.inner(self.norm_2(e))
            e = e + self.outer(F.relu(hidden) if self.model.activation == "relu" else F.gelu(hidden, approximate="tanh"))
        return e

    def attention(self, e: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time d_model"]:
        """All heads together, of the normalised stream."""
        q, k, v = self.project(e)
        return self.out(self._answers(q, k, v, e).transpose(1, 2).flatten(2))

    def project(self, e: Float[Tensor, "batch time d_model"]) -> tuple[Float[Tensor, "batch heads time _"], ...]:
        """Queries and keys, with their features, and values of every head."""
        q, k, v = (
            map_(of).unflatten(-1, (self.model.n_heads, -1)).transpose(1, 2)
            for map_, of in ((self.queries, e), (self.keys, self._before(e)), (self.values, e))
        )
        return (q, k, v) if self.name == "softmax" else (self._features(q), self._features(k), v)

    def attention_weights(self, e: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch heads time time"]:
        """With what weight each query (row) of the stream before the block sums the values of each position (column)."""
        if self.kind.weights is None:
            raise InputError(f"layers of kind {self.name} have no attention weights")
        normalised = self.norm_1(e)
        q, k, _ = self.project(normalised)
        return self.kind.weights(q[None], k[None], k[None], normalised[None], self._own())[0]

    def _before(self, e: Tensor) -> Tensor:
        """What the keys are made of: with a shift the token before, and at the first position a zero token, or itself."""
        if self.shift == "none":
            return e
        first = e[:, :1] if self.shift == "self" else torch.zeros_like(e[:, :1])
        return torch.cat([first, e[:, :-1]], dim=1)

    def _features(self, x: Tensor) -> Tensor:
        model = self.model
        if model.normalise == "before":
            x = divided_by_norm(x, model.guard)
        x = dpfp(x, model.nu)
        return divided_by_norm(x, model.guard) if model.normalise == "after" else x

    def _answers(self, q: Tensor, k: Tensor, v: Tensor, e: Tensor) -> Tensor:
        if self.name in HALF:
            q, k = q.to(v.dtype), k.to(v.dtype)
            return softmax(q, k, v) if self.name == "softmax" else linear(q, k, v)
        with torch.autocast(q.device.type, enabled=False):
            q, k, v, e = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q, k, v, e))
            if self.name == "mesa":
                return (chunked_mesa if self.mesa_form == "chunked" else self._recursion)(q, k, v, self._lam())
            # features have other sizes than values; the weights of these kinds do not depend on values
            assert self.kind.weights is not None
            return self.kind.weights(q[None], k[None], k[None], e[None], self._own())[0] @ v

    def _recursion(self, q: Tensor, k: Tensor, v: Tensor, lam: Tensor) -> Tensor:
        return self.kind.heads(q[None], k[None], v[None], q[None], {"lam": lam[None]})[0]

    def _own(self) -> Mapping[str, Tensor]:
        """The kind's own parameters, as a pack of one has them."""
        return {name: getattr(self, name)[None] for name in self.own}

    def _lam(self) -> Float[Tensor, " heads"]:
        """lambda, never below its floor; the gradient passes through, so that a head that hits it can come back."""
        lam, floor = self._own()["lam"][0], self.own["lam"].floor or 0.0
        return lam + (floor - lam.detach()).clamp(min=0)


def softmax(q: Heads, k: Heads, v: Heads) -> Heads:
    """Softmax attention by PyTorch's own kernel, which keeps no weights in memory."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def linear(
    q: Float[Tensor, "batch heads time d_key"], k: Float[Tensor, "batch heads time d_key"], v: Heads
) -> Float[Tensor, "batch heads time d_head"]:
    """Linear attention: on a GPU all weights at once, in half precision; on a CPU a run of positions at a time, three to four
    times as fast over 512.
    """
    return linear_attention(q, k, v) if q.is_cuda else chunked_linear(q, k, v)
