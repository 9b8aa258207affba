"""The baseline: a naive eager loop on its own, without this project's model, optimiser or backends.

Whole batches, a module per head's projection, plain automatic differentiation, for the mesa-layer through one Sherman-Morrison
update after another.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mesaopt.data.random import generator
from mesaopt.data.sequences import generate
from mesaopt.spec.run import Model, Run


class NaiveModel(nn.Module):
    """One seed. `weights` in the order layer, head, (W_Q, W_K, W_V, W_O), `mlp` layer, (W_1, W_2); shapes as in the project's
    model.
    """

    def __init__(self, spec: Model, n_obs: int) -> None:
        super().__init__()
        self.spec, self.n_obs = spec, n_obs
        shapes = []
        for layer in range(len(spec.layers)):
            wide = spec.d_model + (spec.d_pe if layer == 0 else 0)
            for _ in range(spec.n_heads):
                shapes += [(spec.d_head, wide)] * 2 + [(spec.d_head, spec.d_model), (spec.d_model, spec.d_head)]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(shape) * spec.init_std) for shape in shapes)
        mlp = [(spec.d_mlp, spec.d_model), (spec.d_model, spec.d_mlp)] * len(spec.layers) if spec.d_mlp else []
        self.mlp = nn.ParameterList(nn.Parameter(torch.randn(shape) * spec.init_std) for shape in mlp)
        self.lam = nn.Parameter(torch.ones(len(spec.layers), spec.n_heads))
        if spec.tokens == "raw":
            self.embedding = nn.Parameter(torch.randn(spec.d_model, n_obs) * spec.init_std)
            self.unembedding = nn.Parameter(torch.randn(n_obs, spec.d_model) * spec.init_std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predictions (batch, time, n_obs) from tokens (batch, time, token)."""
        spec, raw = self.spec, self.spec.tokens == "raw"
        e = tokens @ self.embedding.T if raw else tokens
        mask = torch.ones(e.shape[1], e.shape[1]).tril()
        for layer, kind in enumerate(spec.layers):
            seen = torch.cat([e, positions(e, spec.d_pe)], -1) if layer == 0 and spec.d_pe else e
            out = 0
            for head in range(spec.n_heads):
                start = 4 * (layer * spec.n_heads + head)
                W_Q, W_K, W_V, W_O = (self.weights[start + part] for part in range(4))
                q, k, v = seen @ W_Q.T, seen @ W_K.T, e @ W_V.T
                if layer > 0:
                    q, k, v = normalised(q, k, v, spec.normalise)
                if kind == "mesa":
                    q = sherman_morrison(q, k, self.lam[layer, head])
                scores = q @ k.mT
                if kind == "softmax":
                    scores = (scores / math.sqrt(spec.d_head)).masked_fill(mask == 0, -math.inf).softmax(-1)
                out = out + (scores * mask) @ v @ W_O.T
            e = e + out
            if spec.d_mlp:
                W_1, W_2 = self.mlp[2 * layer : 2 * layer + 2]
                e = e + nn.functional.gelu(e @ W_1.T, approximate="tanh") @ W_2.T
            e = e if spec.clip is None else e.clamp(-spec.clip, spec.clip)
        return e @ self.unembedding.T if raw else e[..., : self.n_obs]


def positions(e: Tensor, d_pe: int) -> Tensor:
    """Sinusoids beside every sequence (batch, time, d_pe)."""
    angles = torch.arange(e.shape[1])[:, None] * 10000.0 ** (-torch.arange(0, d_pe, 2) / d_pe)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :d_pe].to(e).expand(len(e), -1, -1)


def normalised(q: Tensor, k: Tensor, v: Tensor, which: str) -> tuple[Tensor, Tensor, Tensor]:
    """With norm 1 at every position: queries and keys (`qk`), queries and values (`qv`) or nothing (`none`)."""
    q, k, v = (
        x / (x.norm(dim=-1, keepdim=True) + 1e-16) if name in which else x for name, x in zip("qkv", (q, k, v), strict=True)
    )
    return q, k, v


def sherman_morrison(q: Tensor, k: Tensor, lam: Tensor) -> Tensor:
    """R_t q_t at every position, R_t = (sum_{t'<=t} k k^T + I / lam)^-1."""
    R, out = torch.eye(q.shape[-1]) * lam, []
    for t in range(q.shape[1]):
        u = R @ k[:, t, :, None]
        R = R - u @ u.mT / (1 + k[:, t, None, :] @ u)
        out.append((R @ q[:, t, :, None])[..., 0])
    return torch.stack(out, 1)


def naive_tokens(s: Tensor, kind: str) -> Tensor:
    """What the model reads of the inputs s (batch, time, n_obs)."""
    if kind == "raw":
        return s
    previous = torch.cat([torch.zeros_like(s[:, :1]), s[:, :-1]], dim=1)
    second = torch.zeros_like(s) if kind == "constructed_bare" else s
    return torch.cat([torch.zeros_like(s), second, s, previous], dim=-1)


def naive_loss(model: NaiveModel, observations: Tensor) -> Tensor:
    """Half the squared error summed over channels, mean over sequences and positions."""
    s = observations[:, :-1]
    error = model(naive_tokens(s, model.spec.tokens)) - observations[:, 1:]
    return error.square().sum() / (2 * s.shape[0] * s.shape[1])


def naive_step(run: Run) -> Callable[[int], None]:
    """A function that makes training step `index`."""
    model = NaiveModel(run.model, run.task.n_obs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.training.lr, weight_decay=run.training.weight_decay, foreach=False)

    def step(index: int) -> None:
        loss = naive_loss(model, generate(run.task, run.training.batch, generator(1, "train", index)).observations)
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            if parameter.grad is not None:  # lambda where no layer is a mesa-layer
                parameter.grad.clamp_(-1, 1)
        optimizer.step()

    return step
