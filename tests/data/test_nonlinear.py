"""Nonlinear systems: what states follow, the one MLP of the task, and its normalised output for all who ask."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mesaopt.data.files import read_sequences, write_sequences
from mesaopt.data.mlp import random_mlp, unit
from mesaopt.data.random import generator
from mesaopt.data.sampler import PLAIN
from mesaopt.data.sequences import generate, generator_of, inputs_targets
from mesaopt.data.tasks.nonlinear import features, mlp
from mesaopt.errors import InputError
from mesaopt.models.objectives.squared_error import total_loss
from mesaopt.spec.run import Task
from mesaopt.store.tables import read_table

TASK = Task("nonlinear")


def naive_mlp(h: torch.Tensor) -> torch.Tensor:
    """One state at a time, unit by unit, in float64 and with the tanh written out."""
    a, b, out = mlp(10).a.double(), mlp(10).b.double(), torch.zeros(10).double()
    for k in range(40):
        x = sum(h[i].item() * a[i, k].item() for i in range(10))
        out += b[k] * 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return out


def test_features_are_those_of_the_naive_mlp() -> None:
    """Relative 1e-5: float32 against float64."""
    states = generate(TASK, 3, generator(1, "train", 0)).observations
    for b in range(3):
        for t in (0, 1, 50):
            expected = naive_mlp(states[b, t].double())
            torch.testing.assert_close(features(states, False)[b, t].double(), expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(features(states)[b, t].double(), expected / expected.norm(), rtol=1e-5, atol=1e-6)
    assert features(states.double()).dtype == torch.float64
    given = generator_of(TASK).features
    assert given is not None and torch.equal(given(states, True), features(states))


def test_states_follow_w_of_the_features() -> None:
    drawn = generate(TASK, 500, generator(1, "train", 0))
    s, w = drawn.observations.double(), drawn.systems["W"].double()
    assert s.shape == (500, 51, 10) and drawn.observations.dtype == torch.float32
    assert (w @ w.mT - torch.eye(10).double()).abs().max() < 1e-5
    noise = s[:, 1:] - torch.einsum("bij,btj->bti", w, features(s[:, :-1]))
    assert abs(noise.std().item() / 0.01 - 1) < 0.01 and abs(noise.mean().item()) < 1e-4
    assert s[:, 0].abs().max() < 0.25 and s[:, 0].abs().max() > 0.249
    assert abs(s[:, 0].square().mean().item() / (0.25**2 / 3) - 1) < 0.05


def test_the_loss_of_predicting_zero() -> None:
    """Targets have norm 1, up to the noise: (1 + 10 * 0.01^2) / 2, at every t. In the units of every loss: half the squared
    error summed over channels, mean over sequences and positions.
    """
    inputs, targets = inputs_targets(generate(TASK, 4000, generator(1, "train", 0)).observations[None])
    assert inputs.shape == targets.shape == (1, 4000, 50, 10)
    by_position = targets[0].square().sum(-1).mean(0) / 2
    torch.testing.assert_close(by_position, torch.full((50,), 0.5005), rtol=0, atol=8e-4)
    mean = total_loss(torch.zeros_like(targets), targets).item() / (4000 * 50)
    assert mean == pytest.approx(0.5005, abs=1e-4) and mean == pytest.approx(by_position.mean().item(), rel=1e-5)


def test_the_mlp_is_the_tasks_own() -> None:
    drawn = [generate(TASK, 2, generator(seed, "train")).systems for seed in (1, 11)]
    for name, shape in (("A", (10, 40)), ("B", (40, 10))):
        matrices = torch.cat([systems[name] for systems in drawn])
        assert matrices.shape == (4, *shape) and (matrices == matrices[0]).all()
        assert abs(matrices[0].std().item() / 1.1 - 1) < 0.1
    assert not torch.equal(drawn[0]["W"], drawn[1]["W"])
    assert not torch.equal(mlp(10).a.T, mlp(10).b)


def test_nothing_is_clipped_and_zeros_stay_zeros() -> None:
    loud = generate(dataclasses.replace(TASK, state_noise=10.0), 100, generator(1, "train")).observations
    assert loud.isfinite().all() and loud.abs().max() > 20
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0], [3e18, 4e18]])
    assert torch.allclose(unit(vectors), torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0], [0.6, 0.8]]), atol=1e-6)


def test_roll_out_equals_one_sequence_at_a_time() -> None:
    rng = generator(1, "train")
    w, first, noise = PLAIN.normal(rng, 7, 3, 3), PLAIN.normal(rng, 3, 7), PLAIN.normal(rng, 6, 3, 7)
    small = random_mlp(rng, 3, 5, 1.0)
    fast = PLAIN.roll_out(w, first, noise.clone(), 0.5, 1.5, small)
    for b in range(7):
        state = first[:, b].double()
        for t in range(6):
            state = (w[b].double() @ small.normalised(state) + 0.5 * noise[t, :, b]).clamp(-1.5, 1.5)
            torch.testing.assert_close(fast[b, t + 1].double(), state, atol=2e-5, rtol=0)


def test_files_hold_the_mlp_once_per_split(tmp_path: Path) -> None:
    write_sequences(TASK, 1, {"evaluation": 3, "probe_fit": 2}, tmp_path / "s.parquet", tmp_path / "systems.parquet")
    assert read_sequences(tmp_path / "s.parquet", "evaluation").shape == (3, 51, 10)
    systems = read_table(tmp_path / "systems.parquet", "systems")
    for split, count in (("evaluation", 3), ("probe_fit", 2)):
        rows = systems[systems["split"] == split].groupby("matrix").size()
        assert rows.to_dict() == {"A": 400, "B": 400, "W": 100 * count}
    a = systems.query("split == 'probe_fit' and matrix == 'A'")
    naive = np.zeros((10, 40), dtype=np.float32)
    naive[a["row"], a["col"]] = a["value"]
    assert (naive == mlp(10).a.numpy()).all() and (a["sequence"] == 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"n_obs": 5}, "fully observed: n_obs must be n_state = 10, not 5"), ({"obs_noise": 0.1}, "no obs_noise, not 0.1")],
)
def test_partial_observation_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(dataclasses.replace(TASK, **changes), 1, generator(1, "train"))
