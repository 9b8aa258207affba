"""The delta rule against its recurrence, and in trainings."""

import dataclasses
from pathlib import Path

import pytest
import torch
from stage_files import MODELS, TASK, TRAINING

from mesaopt.backends.choose import choose
from mesaopt.models.transformer import initialise
from mesaopt.models.weights import load_weights
from mesaopt.spec.run import Run
from mesaopt.spec.words import module
from mesaopt.store.tables import read_table
from mesaopt.training.loop import Options, train


def recurrence(q, k, v, beta):
    """S_t = S_{t-1} + beta_t (v_t - S_{t-1} k_t) k_t^T answers with S_t q_t, position by position."""
    S, answers = torch.zeros(*v.shape[:-2], v.shape[-1], k.shape[-1], dtype=v.dtype), []
    for t in range(q.shape[-2]):
        key = k[..., t, :] / (torch.linalg.vector_norm(k[..., t, :], dim=-1, keepdim=True) + 1e-16)
        error = v[..., t, :] - (S @ key[..., None])[..., 0]
        S = S + beta[..., t, :, None] * error[..., :, None] * key[..., None, :]
        answers.append((S @ q[..., t, :, None])[..., 0])
    return torch.stack(answers, dim=-2)


@pytest.mark.parametrize("time", [1, 7, 50])
def test_it_is_the_recurrence_with_its_gradients(time: int) -> None:
    delta, rng = module("layer", "delta"), torch.Generator().manual_seed(time)
    shapes = {"q": (2, 3, 2, time, 5), "k": (2, 3, 2, time, 5), "v": (2, 3, 2, time, 5), "e": (2, 3, time, 9)}
    own_shapes = {"w_beta": (2, 2, 9), "b_beta": (2, 2)}
    x = {n: torch.randn(s, generator=rng, dtype=torch.float64, requires_grad=True) for n, s in (shapes | own_shapes).items()}
    own = {name: x[name] for name in own_shapes}
    fast = delta.heads(x["q"], x["k"], x["v"], x["e"], own)
    slow = recurrence(x["q"], x["k"], x["v"], delta.rates(x["e"], own))
    assert (fast - slow).abs().max() <= 1e-6 * slow.abs().max()
    upstream = torch.randn(fast.shape, generator=rng, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(fast, x.values(), upstream), torch.autograd.grad(slow, x.values(), upstream), strict=True
    ):
        assert (a - b).abs().max() <= 1e-6 * max(b.abs().max(), 1e-12)
    weights = delta.weights(x["q"], x["k"], x["v"], x["e"], own)
    assert torch.equal(weights, weights.tril()), "nothing later is seen"


def test_it_trains_stacked_as_alone_and_falls_back_on_pytorch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = dataclasses.replace(MODELS["bare"], layers=("delta",), init_std=0.05)
    run = Run("linear/delta", TASK, model, dataclasses.replace(TRAINING, steps=30, lr=1e-2))
    assert choose("auto", run, "cpu").name == "torch"
    assert "the native kernel has no delta layer" in capsys.readouterr().err
    together = {seed: tmp_path / f"together/seed-{seed}" for seed in (1, 2)}
    train(run, together, Options(tmp_path / "checkpoints", progress="none"))
    train(run, {2: tmp_path / "alone"}, Options(tmp_path / "checkpoints", progress="none"))
    stacked, alone = load_weights(together[2] / "weights.safetensors"), load_weights(tmp_path / "alone/weights.safetensors")
    assert all(torch.allclose(stacked[name], alone[name], rtol=1e-4, atol=1e-6) for name in alone)
    history = read_table(tmp_path / "alone/history.parquet", "history")["test_loss"]
    assert history.iloc[-1] < 0.9 * history.iloc[0]
    start = initialise(model, TASK.n_obs, [2]).seed_weights(0)
    assert (start["layers.0.b_beta"] == 0).all() and start["layers.0.w_beta"].std() > 0
