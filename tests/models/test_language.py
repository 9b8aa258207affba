"""Language models, against the formulas that they stand for."""

import dataclasses
import math

import pytest
import torch

from mesaopt.errors import InputError
from mesaopt.models.features import divided_by_norm, dpfp
from mesaopt.models.language import decayed, initialise_language
from mesaopt.models.objectives import cross_entropy
from mesaopt.spec.language import LanguageModel

VOCABULARY, LENGTH = 19, 12
SMALL = LanguageModel(("softmax",), d_model=8, n_heads=2, d_head=4, nu=1, init_std=0.5)
KINDS = ("softmax", "linear", "mesa", "delta")


def made(kind: str = "softmax", **changes):
    """A model in float64 with nothing left at zero."""
    settings = {"layers": (kind,), **changes}
    model = initialise_language(dataclasses.replace(SMALL, **settings), VOCABULARY, LENGTH, seed=1).double()
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.rand(parameter.shape, generator=rng, dtype=torch.float64)
    return model


def text(batch: int = 2, time: int = LENGTH) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(2))


# --- features
def test_dpfp_written_out_by_hand():
    x = torch.tensor([1.0, -2.0, 3.0])
    r = [1.0, 0.0, 3.0, 0.0, 2.0, 0.0]  # the positive parts of x, then those of -x
    assert torch.equal(dpfp(x, 0), x)
    assert dpfp(x, 1).tolist() == [r[i] * r[i - 1] for i in range(6)]
    expected = [r[i] * r[i - j] for j in (1, 2, 3) for i in range(6)]
    assert dpfp(x, 3).tolist() == expected and any(expected)


def test_features_are_of_norm_one_and_zero_stays_zero():
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(divided_by_norm(dpfp(x, 2), 1e-6).norm(dim=-1), torch.ones(3, 5), atol=1e-5)
    nothing = torch.zeros(2, 4, requires_grad=True)
    divided_by_norm(dpfp(nothing, 2), 1e-6).sum().backward()
    assert torch.equal(nothing.grad, torch.zeros(2, 4))


# --- the model
def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return norm.weight * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() + norm.bias


def features(x, model):
    if model.normalise == "before":
        x = x / max(float(x.detach().norm()), model.guard)
    r = torch.cat([x.clamp(min=0), (-x).clamp(min=0)])
    n = len(r)
    if model.nu:
        x = torch.stack([r[i] * r[i - j] for j in range(1, model.nu + 1) for i in range(n)])
    return x / max(float(x.detach().norm()), model.guard) if model.normalise == "after" else x


def attended(block, normed, head):
    """One head of one sequence (time, d_model), position by position, as the equations say."""
    model, d = block.model, block.model.d_head
    rows = slice(head * d, (head + 1) * d)
    q, k, v = ([linear.weight[rows] @ x + linear.bias[rows] for x in of] for linear, of in (
        (block.queries, normed), (block.keys, before(block, normed)), (block.values, normed)))  # fmt: skip
    if block.name != "softmax":
        q, k = [features(x, model) for x in q], [features(x, model) for x in k]
    answers, memory = [], torch.zeros(d, len(k[0]), dtype=torch.float64)
    for t in range(len(q)):
        past = range(t + 1)
        if block.name == "softmax":
            weights = torch.softmax(torch.stack([k[s] @ q[t] / math.sqrt(d) for s in past]), 0)
            answers.append(sum(weights[s] * v[s] for s in past))
        elif block.name == "linear":
            answers.append(sum(v[s] * (k[s] @ q[t]) for s in past))
        elif block.name == "mesa":
            gram = sum(torch.outer(k[s], k[s]) for s in past) + torch.eye(len(k[0]), dtype=torch.float64) / block.lam[head]
            answers.append(sum(torch.outer(v[s], k[s]) for s in past) @ torch.linalg.inv(gram) @ q[t])
        else:
            key = k[t] / k[t].norm()
            beta = torch.sigmoid(block.w_beta[head] @ normed[t] + block.b_beta[head])
            memory = memory + beta * torch.outer(v[t] - memory @ key, key)
            answers.append(memory @ q[t])
    return torch.stack(answers)


def before(block, normed):
    if block.shift == "none":
        return list(normed)
    first = normed[0] if block.shift == "self" else torch.zeros_like(normed[0])
    return [first, *normed[:-1]]


def logits_of_one(model, tokens):
    """Of one sequence, block by block."""
    settings = model.model
    place = torch.arange(len(tokens), dtype=torch.float64)[:, None]
    rates = 10000.0 ** (-2 * (torch.arange(settings.d_model, dtype=torch.float64) // 2) / settings.d_model)
    angles = place * rates + (torch.arange(settings.d_model, dtype=torch.float64) % 2) * math.pi / 2  # odd channels are cosines
    e = settings.embedding_scale * math.sqrt(settings.d_model) * model.tokens[tokens] + settings.position_scale * angles.sin()
    for block in model.blocks():
        normed = layer_norm(e, block.norm_1)
        heads = [attended(block, normed, head) for head in range(settings.n_heads)]
        e = e + torch.cat(heads, -1) @ block.out.weight.T + block.out.bias
        if settings.d_mlp:
            hidden = layer_norm(e, block.norm_2) @ block.inner.weight.T + block.inner.bias
            e = e + hidden.clamp(min=0) @ block.outer.weight.T + block.outer.bias
    e = layer_norm(e, model.norm) @ model.output.T
    return e if settings.output == "untied" else e @ model.tokens.T


SETTINGS = [
    *({"kind": kind} for kind in KINDS),
    *({"kind": kind, "nu": 3, "key_shift": "zero"} for kind in ("linear", "mesa", "delta")),
    {"kind": "mesa", "nu": 0, "key_shift": "self"},
    {"kind": "softmax", "key_shift": "zero", "d_mlp": 16},
    {"kind": "linear", "normalise": "before", "output": "tied"},
    {"kind": "linear", "normalise": "none", "embedding_scale": 0.5, "position_scale": 0.3},
    {"kind": "softmax", "layers": ("softmax", "mesa", "linear"), "d_mlp": 16},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_logits_are_those_of_the_equations(settings):
    model, tokens = made(**settings), text()
    found = model(tokens)
    for one, logits in zip(tokens, found, strict=True):
        assert torch.allclose(logits, logits_of_one(model, one), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_looks_ahead(kind):
    model, tokens = made(kind, key_shift="zero"), text()
    changed = tokens.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % VOCABULARY
    assert torch.allclose(model(tokens)[:, :7], model(changed)[:, :7], atol=1e-10)
    assert not torch.allclose(model(tokens)[:, 7], model(changed)[:, 7], atol=1e-4)


def test_one_layer_with_a_key_shift_can_copy():
    """The layer of an induction head: its keys are those of the tokens before, so a query finds what followed its own token."""
    settings = dataclasses.replace(SMALL, n_heads=1, d_head=8, key_shift="zero", positions="none")
    model = initialise_language(settings, VOCABULARY, LENGTH, seed=1)
    block = model.blocks()[0]
    with torch.no_grad():  # queries look for their own token; all have the same norm
        block.queries.weight.copy_(5 * torch.eye(8)), block.keys.weight.copy_(torch.eye(8))
    weights = block.attention_weights(model.embed(torch.tensor([[4, 9, 2, 7, 4]])))[0, 0]
    assert float(weights[4, 1].detach()) > 0.9, "what followed the first 4"


@pytest.mark.parametrize("kind", KINDS)
def test_attention_weights_give_the_answers(kind):
    model, tokens = made(kind), text()
    block, e = model.blocks()[0], model.embed(tokens)
    values = block.project(block.norm_1(e))[2]
    heads = block.attention_weights(e) @ values
    assert torch.allclose(block.out(heads.transpose(1, 2).flatten(2)), block.attention(block.norm_1(e)), atol=1e-10)


def test_both_forms_of_mesa_agree_in_value_and_gradient():
    found = {}
    for form in ("chunked", "recursion"):
        model = made("mesa", nu=2)
        for block in model.blocks():
            block.mesa_form = form
        inputs, targets = cross_entropy.examples(None, text(3, LENGTH))
        cross_entropy.total_loss(model(inputs), targets).backward()
        found[form] = {name: p.grad for name, p in model.named_parameters()}
    for name, gradient in found["chunked"].items():
        assert torch.allclose(gradient, found["recursion"][name], rtol=1e-6, atol=1e-9), name


# --- where it starts
def test_weights_are_drawn_as_said():
    settings = LanguageModel(("softmax", "mesa"), d_model=64, n_heads=4, d_head=16, d_mlp=256)
    model = initialise_language(settings, 300, 32, seed=5)
    for name, parameter in model.named_parameters():
        if name.endswith("lam") or ("norm" in name and name.endswith("weight")):
            assert (parameter == 1).all()
        elif parameter.ndim == 1:
            assert (parameter == 0).all(), name
        else:
            std = 0.02 / (2.0 if name.endswith(("out.weight", "outer.weight")) else 1.0)  # sqrt(2 N) of two layers
            assert float(parameter.detach().std()) == pytest.approx(std, rel=0.05), name
    again = initialise_language(settings, 300, 32, seed=5)
    other = initialise_language(settings, 300, 32, seed=6)
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in model.named_parameters())
    assert not torch.equal(model.tokens, other.tokens)


def test_decay_holds_for_matrices_alone():
    model = initialise_language(dataclasses.replace(SMALL, layers=("mesa",), d_mlp=16), VOCABULARY, LENGTH, seed=1)
    names = [name for name, _ in model.named_parameters()]
    held = {name for name, yes in zip(names, decayed(model, "matrices"), strict=True) if yes}
    matrices = {f"layers.0.{part}.weight" for part in ("queries", "keys", "values", "out", "inner", "outer")}
    assert held == matrices | {"output"}
    assert all(decayed(model, "all"))


# --- the objective
def test_cross_entropy_is_the_negative_logarithm():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = torch.tensor([[0, 4, 2], [1, 1, 3]])
    probability = logits.exp() / logits.exp().sum(-1, keepdim=True)
    expected = [[-math.log(probability[i, t, targets[i, t]]) for t in range(3)] for i in range(2)]
    assert torch.allclose(cross_entropy.losses(logits, targets), torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    assert float(cross_entropy.total_loss(logits, targets)) == pytest.approx(sum(map(sum, expected)), rel=1e-12)
    with pytest.raises(InputError, match="tokens of a text"):
        cross_entropy.examples(None, logits)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layers": ("sofmax",)}, "sofmax"),
        ({"key_shift": "one"}, "unknown key_shift 'one': one of none, zero, self"),
        ({"nu": 8}, "nu must be below 2 d_head"),
        ({"dropout": 1.0}, "dropout must be"),
    ],
)
def test_impossible_models_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SMALL, **changes)
