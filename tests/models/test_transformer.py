"""The Transformer against its equations written per head, and its weights as memory, pack and file."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import DEVICES

from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.layers.mesa import mesa_ridge
from mesaopt.models.transformer import Transformer, initialise, positional_encoding
from mesaopt.models.weights import load_model, load_weights, save_weights
from mesaopt.spec.run import Model, Run, Task, Training

CONSTRUCTED = Model(layers=("linear", "mesa"), tokens="constructed", d_model=12, n_heads=2, d_head=5, init_std=0.3, clip=1.0)
RAW = Model(
    layers=("softmax", "mesa"), tokens="raw", d_model=7, n_heads=2, d_head=4, init_std=0.5, d_pe=6, d_mlp=9, normalise="qk"
)


def observations(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def naive_heads(kind, q, k, v, lam):
    """One head's output for one sequence, (time, d_head)."""
    if kind == "mesa":
        return mesa_ridge(q, k, v, lam)
    scores = (q @ k.T).masked_fill(torch.ones(len(q), len(q)).triu(1).bool(), -math.inf)
    if kind == "softmax":
        return (scores / math.sqrt(q.shape[1])).softmax(-1) @ v
    return scores.masked_fill(scores.isinf(), 0) @ v


def naive_forward(model, weights, tokens, n_obs):
    """Prediction for one sequence from `seed_weights`, head by head."""
    e = tokens @ weights["embedding"].T if model.tokens == "raw" else tokens
    for index, kind in enumerate(model.layers):
        w = {name.split(".")[2]: tensor for name, tensor in weights.items() if name.startswith(f"layers.{index}.")}
        seen = torch.cat([e, positional_encoding(len(e), model.d_pe)], 1) if index == 0 and model.d_pe else e
        update = torch.zeros_like(e)
        for head in range(model.n_heads):
            q, k, v = seen @ w["W_Q"][head].T, seen @ w["W_K"][head].T, e @ w["W_V"][head].T
            if index > 0 and model.normalise != "none":
                q = q / q.norm(dim=1, keepdim=True)
                k, v = (k / k.norm(dim=1, keepdim=True), v) if model.normalise == "qk" else (k, v / v.norm(dim=1, keepdim=True))
            update += naive_heads(kind, q, k, v, w["lam"][head] if kind == "mesa" else None) @ w["W_O"][head].T
        e = e + update
        if model.d_mlp:
            e = e + torch.nn.functional.gelu(e @ w["W_1"].T, approximate="tanh") @ w["W_2"].T
        e = e.clamp(-model.clip, model.clip) if model.clip else e
    return e @ weights["unembedding"].T if model.tokens == "raw" else e[:, :n_obs]


@pytest.mark.parametrize(
    "model",
    [
        CONSTRUCTED,
        RAW,
        replace(RAW, normalise="qv"),
        replace(CONSTRUCTED, layers=("linear",) * 3),
        replace(RAW, layers=("linear", "softmax"), d_mlp=0, normalise="none"),
    ],
)
def test_forward_is_the_equation_head_by_head(model):
    transformer = initialise(model, 3, [1, 11]).double()
    tokens = tokenise(observations(2, 3, 8, 3), model.tokens)
    predictions = transformer(tokens)
    for member in range(2):
        for sequence in range(3):
            expected = naive_forward(model, transformer.seed_weights(member), tokens[member, sequence], 3)
            torch.testing.assert_close(predictions[member, sequence], expected, rtol=1e-9, atol=1e-10)


@settings(max_examples=15, deadline=None, database=None)
@given(
    layers=st.lists(st.sampled_from(["linear", "softmax", "mesa"]), min_size=1, max_size=3),
    raw=st.booleans(),
    sizes=st.tuples(*[st.integers(1, 4)] * 6),
)
def test_shapes_of_every_kind_of_model(layers, raw, sizes):
    pack, batch, time, n_obs, n_heads, d_head = sizes
    model = Model(
        layers=tuple(layers),
        tokens="raw" if raw else "constructed",
        d_model=4 * n_obs,
        n_heads=n_heads,
        d_head=d_head,
        init_std=0.1,
    )
    transformer = initialise(model, n_obs, range(pack))
    predictions, stream = transformer.activations(tokenise(observations(pack, batch, time, n_obs).float(), model.tokens))
    assert predictions.shape == (pack, batch, time, n_obs)
    assert list(stream) == [f"layer_{index}" for index in range(len(layers) + 1)]
    assert {e.shape for e in stream.values()} == {(pack, batch, time, 4 * n_obs)}
    predictions.sum().backward()
    assert all(parameter.grad is not None for parameter in transformer.parameters())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", [CONSTRUCTED, RAW])
def test_gradients_are_those_of_the_equation_head_by_head(model, device):
    """Of every parameter, by automatic differentiation of the naive model; float64, norm-relative 1e-9."""
    transformer = initialise(model, 3, [1]).double().to(device)
    tokens = tokenise(observations(4, 9, 3), model.tokens).to(device)
    transformer(tokens[None]).square().sum().backward()
    transformer, tokens = transformer.cpu(), tokens.cpu()
    weights = {name: value.requires_grad_() for name, value in transformer.seed_weights(0).items()}
    sum(naive_forward(model, weights, sequence, 3).square().sum() for sequence in tokens).backward()
    for name, parameter in transformer.named_parameters():
        expected = weights[name].grad
        assert (parameter.grad[0] - expected).norm() <= 1e-9 * expected.norm(), name


@pytest.mark.parametrize("kind", ["linear", "softmax", "mesa"])
@pytest.mark.parametrize("tokens", ["raw", "constructed"])
def test_the_future_changes_no_prediction(kind, tokens):
    model = replace(CONSTRUCTED, layers=(kind, kind), tokens=tokens, d_pe=4 if tokens == "raw" else 0)
    transformer = initialise(model, 3, [5])
    inputs = observations(1, 2, 9, 3).float()
    changed = inputs.clone()
    changed[:, :, 6:] += 1.0
    before, after = transformer(tokenise(inputs, tokens)), transformer(tokenise(changed, tokens))
    torch.testing.assert_close(before[:, :, :6], after[:, :, :6], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(before[:, :, 6:], after[:, :, 6:])


@pytest.mark.parametrize("model", [CONSTRUCTED, RAW])
def test_a_pack_is_its_seeds_apart(model):
    inputs = tokenise(observations(2, 4, 6, 3).float(), model.tokens)
    pack = initialise(model, 3, [1, 11])
    pack(inputs).square().mean((1, 2, 3)).sum().backward()
    for member, seed in enumerate([1, 11]):
        alone = initialise(model, 3, [seed])
        out = alone(inputs[member : member + 1])
        out.square().mean().backward()
        torch.testing.assert_close(out[0], pack(inputs)[member], rtol=1e-5, atol=1e-6)
        for (name, one), many in zip(alone.named_parameters(), pack.parameters(), strict=True):
            assert torch.equal(one[0], many[member]), name
            torch.testing.assert_close(one.grad[0], many.grad[member], rtol=1e-4, atol=1e-6)


def test_initialisation():
    model = replace(CONSTRUCTED, d_model=40, d_head=20, n_heads=4, init_std=0.0002)
    weights = initialise(model, 10, [3]).seed_weights(0)
    assert torch.equal(weights.pop("layers.1.lam"), torch.ones(4))
    assert len(weights) == 8
    for name, tensor in weights.items():
        assert tensor.std().item() == pytest.approx(0.0002, rel=0.05), name
        assert abs(tensor.mean().item()) < 2e-5, name
    # no two parameters share their numbers
    assert not torch.equal(weights["layers.0.W_Q"], weights["layers.0.W_K"])
    assert not torch.equal(weights["layers.0.W_Q"], weights["layers.1.W_Q"])


def test_positional_encoding():
    encoding = positional_encoding(5, 4)
    assert encoding[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    expected = [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    torch.testing.assert_close(encoding[3], torch.tensor(expected, dtype=torch.float64))
    assert positional_encoding(5, 3).shape == (5, 3)


def test_weights_survive_a_file_and_give_the_same_bytes(tmp_path):
    run = Run("linear/small", Task("linear", n_state=3, n_obs=3, context_length=5), CONSTRUCTED, Training(lr=1e-3, steps=1))
    trained = initialise(CONSTRUCTED, 3, [1, 11])
    first, again = tmp_path / "a" / "weights.safetensors", tmp_path / "b.safetensors"
    save_weights(trained.seed_weights(1), first)
    save_weights(dict(reversed(trained.seed_weights(1).items())), again)
    assert first.read_bytes() == again.read_bytes()
    loaded = load_model(run, first)
    for name, tensor in trained.seed_weights(1).items():
        assert torch.equal(loaded.seed_weights(0)[name], tensor), name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file; expected trained weights"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a readable weights file"),
        (lambda path: path.write_bytes(b""), "not a readable weights file"),
        (lambda path: save_weights(initialise(RAW, 3, [1]).seed_weights(0), path), "weights of another model: unknown parameter"),
        (
            lambda path: save_weights(initialise(replace(CONSTRUCTED, d_head=4), 3, [1]).seed_weights(0), path),
            "weights of another model: layers.0.W_Q has shape (2, 4, 12), expected (2, 5, 12)",
        ),
        (
            lambda path: save_weights({"layers.0.W_Q": torch.zeros(2, 5, 12)}, path),
            "weights of another model: missing parameter layers.0.W_K",
        ),
    ],
)
def test_bad_weights_files_are_named_in_one_line(tmp_path, damage, message):
    run = Run("linear/small", Task("linear", n_state=3, n_obs=3, context_length=5), CONSTRUCTED, Training(lr=1e-3, steps=1))
    path = tmp_path / "weights.safetensors"
    save_weights(initialise(CONSTRUCTED, 3, [1]).seed_weights(0), path)
    damage(path)
    with pytest.raises(InputError) as caught:
        load_model(run, path)
    text = str(caught.value)
    assert text.startswith(str(path)) and message in text and "\n" not in text


def test_a_pack_takes_as_many_weights_as_it_has_members():
    with pytest.raises(InputError, match="weights of 1 seeds for a pack of 2"):
        Transformer(CONSTRUCTED, 3, pack=2).load_seeds([initialise(CONSTRUCTED, 3, [1]).seed_weights(0)])


def test_load_weights_gives_what_was_saved(tmp_path):
    save_weights({"x": torch.arange(3.0)}, tmp_path / "w")
    assert load_weights(tmp_path / "w")["x"].tolist() == [0.0, 1.0, 2.0]
