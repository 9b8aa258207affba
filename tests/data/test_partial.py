"""Partially observed systems: what is seen of them, and that nothing else is."""

import dataclasses
from pathlib import Path

import pytest
import torch

from mesaopt.data.files import read_sequences, write_sequences
from mesaopt.data.random import generator
from mesaopt.data.sequences import generate, inputs_targets
from mesaopt.models.objectives.squared_error import total_loss
from mesaopt.spec.run import Task
from mesaopt.store.tables import read_table

TASK = Task("partial", n_state=15, n_obs=5)


def test_the_loss_of_predicting_zero() -> None:
    """E||C h||^2 / 2 = 5 * 15 * 0.25 / 3 / 2 at t = 1, and at every t, because W is orthogonal."""
    zero = generate(TASK, 20000, generator(1, "train", 0)).observations.square().sum(-1).mean(0) / 2
    assert zero.shape == (51,) and torch.allclose(zero, torch.tensor(3.125), rtol=0.03)
    _, targets = inputs_targets(generate(TASK, 4000, generator(1, "train", 1)).observations[None])
    assert targets.shape == (1, 4000, 50, 5)
    # in the units of every loss: half the squared error summed over channels, mean over sequences and positions
    assert total_loss(torch.zeros_like(targets), targets).item() / (4000 * 50) == pytest.approx(3.125, rel=0.02)


def test_observations_are_the_states_through_c_with_one_draw_of_noise() -> None:
    quiet = dataclasses.replace(TASK, state_noise=0.0, obs_noise=0.0)
    drawn = generate(quiet, 50, generator(1, "train", 0))
    w, c = drawn.systems["W"].double(), drawn.systems["C"].double()
    assert c.shape == (50, 5, 15) and abs(c.std().item() - 0.5) < 0.02
    assert torch.allclose(w @ w.mT, torch.eye(15).double().expand(50, -1, -1), atol=1e-5)
    # states come back from any three observations in a row, and then give all that follow
    seen, powers = drawn.observations.double(), [c, c @ w, c @ w @ w]
    first = torch.linalg.solve(torch.cat(powers, 1), seen[:, :3].flatten(1)[..., None])
    follow = c @ torch.linalg.matrix_power(w, 9) @ first
    assert torch.allclose(follow[..., 0], seen[:, 9], atol=1e-2)
    noisy = generate(dataclasses.replace(quiet, obs_noise=0.3), 50, generator(1, "train", 0)).observations
    assert abs((noisy - drawn.observations).std().item() - 0.3) < 0.01


def test_files_hold_what_is_seen_and_both_matrices(tmp_path: Path) -> None:
    write_sequences(TASK, 1, {"evaluation": 3}, tmp_path / "s.parquet", tmp_path / "systems.parquet")
    assert read_sequences(tmp_path / "s.parquet", "evaluation").shape == (3, 51, 5)
    assert set(read_table(tmp_path / "systems.parquet", "systems")["matrix"]) == {"W", "C"}
