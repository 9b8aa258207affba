"""Named inner activations of layers: their values head by head in float64, and that they cost nothing when nobody asks."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.block import INNER
from mesaopt.models.kinds import kind_called
from mesaopt.models.transformer import initialise, positional_encoding
from mesaopt.spec.run import Model
from mesaopt.spec.words import words

RAW = Model(("linear",), "raw", d_model=7, n_heads=3, d_head=5, init_std=0.5, d_pe=3, d_mlp=9, normalise="qk")
CONSTRUCTED = Model(("linear",), "constructed", d_model=12, n_heads=1, d_head=3, init_std=0.4, clip=1.0, normalise="qv")


def transformer_and_tokens(kind, model):
    transformer = initialise(replace(model, layers=(kind, kind)), 3, [1, 11]).double()
    tokens = torch.randn(2, 3, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return transformer, tokenise(tokens, model.tokens)


def naive_projections(model, weights, index, e):
    """Queries, keys and values of one sequence, (heads, time, d_head) each."""
    w = {name: weights[f"layers.{index}.{name}"] for name in ("W_Q", "W_K", "W_V")}
    first = index == 0
    seen = torch.cat([e, positional_encoding(len(e), model.d_pe)], 1) if first and model.d_pe else e
    found = {"queries": seen @ w["W_Q"].mT, "keys": seen @ w["W_K"].mT, "values": e @ w["W_V"].mT}
    for name in {"none": (), "qk": ("queries", "keys"), "qv": ("queries", "values")}["none" if first else model.normalise]:
        found[name] = found[name] / found[name].norm(dim=-1, keepdim=True)
    return found


def naive_weights(kind, q, k, lam):
    """With what weight each value is summed, (time, time), of one head of one sequence."""
    weights = torch.zeros(len(q), len(q), dtype=q.dtype)
    for t in range(len(q)):
        past = k[: t + 1]
        if kind == "softmax":
            scores = [math.exp(past[i] @ q[t] / math.sqrt(q.shape[1])) for i in range(t + 1)]
            weights[t, : t + 1] = torch.tensor(scores, dtype=q.dtype) / sum(scores)
        else:
            x = torch.linalg.solve(past.T @ past + torch.eye(len(q[t])) / lam, q[t]) if kind == "mesa" else q[t]
            weights[t, : t + 1] = past @ x
    return weights


@pytest.mark.parametrize("model", [RAW, CONSTRUCTED])
@pytest.mark.parametrize("kind", words("layer"))
@torch.no_grad()
def test_inner_activations_are_the_equations_head_by_head(kind, model):
    """In both layers (the first alone reads positions and is not normalised), for both seeds and every sequence."""
    transformer, tokens = transformer_and_tokens(kind, model)
    summing = kind_called(kind).weights is not None
    asked = [name for name in INNER if summing or name != "attention_weights"]
    plain = transformer.activations(tokens)
    predictions, stream = transformer.activations(tokens, inner=asked)
    assert torch.equal(predictions, plain[0]) and all(torch.equal(stream[name], e) for name, e in plain[1].items())
    assert set(stream) == {*plain[1], *(f"layer_{layer}.{name}" for layer in (1, 2) for name in asked)}
    for member in range(2):
        weights = transformer.seed_weights(member)
        for sequence in range(3):
            for index in range(2):
                found = {name: stream[f"layer_{index + 1}.{name}"][member, sequence] for name in asked}
                expected = naive_projections(model, weights, index, stream[f"layer_{index}"][member, sequence])
                for name, value in expected.items():
                    torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10)
                if summing:
                    lam = weights.get(f"layers.{index}.lam", [None] * model.n_heads)
                    check_weights(kind, found, expected, lam, weights[f"layers.{index}.W_O"])


def check_weights(kind, found, expected, lam, W_O):
    output = torch.zeros_like(found["attention_output"])
    for head in range(len(W_O)):
        weights = found["attention_weights"][head]
        if kind in ("linear", "softmax", "mesa"):
            naive = naive_weights(kind, expected["queries"][head], expected["keys"][head], lam[head])
            torch.testing.assert_close(weights, naive, rtol=1e-9, atol=1e-10)
        output += weights @ expected["values"][head] @ W_O[head].T
    torch.testing.assert_close(found["attention_output"], output, rtol=1e-9, atol=1e-10)


class Operations(TorchDispatchMode):
    """Names of all operations that run."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names = [*getattr(self, "names", []), str(function)]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", words("layer"))
def test_nothing_is_computed_that_nobody_asks_for(kind):
    transformer, tokens = transformer_and_tokens(kind, RAW)
    transformer(tokens)  # makes the positional encoding
    with Operations() as forward:
        transformer(tokens)
    with Operations() as layers:
        e, positions = transformer.embed(tokens), positional_encoding(tokens.shape[2], RAW.d_pe)
        made = len(layers.names)
        for block in transformer.blocks():
            e, positions = block(e, positions), None
        transformer.read_out(e)
    embedding = forward.names[: len(forward.names) - len(layers.names[made:])]
    assert forward.names == embedding + layers.names[made:] and set(embedding) <= set(layers.names[:made])
    with Operations() as asked:
        transformer.activations(tokens, inner=["queries"])
    assert len(asked.names) > len(forward.names)


def test_a_kind_that_sums_no_values_and_a_name_that_is_none_are_refused():
    transformer, tokens = transformer_and_tokens("linear", RAW)
    with pytest.raises(InputError, match="inner activation"):
        transformer.activations(tokens, inner=["querys"])
    for block in transformer.blocks():
        block.kind = replace(block.kind, weights=None)
    with pytest.raises(InputError, match="no attention weights"):
        transformer.activations(tokens, inner=["attention_weights"])
