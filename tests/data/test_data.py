"""Generators: the statistics that the paper states, reproducibility to the byte, and the files."""

import dataclasses
import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from mesaopt.data.files import read_sequences, write_sequences
from mesaopt.data.random import generator, normal, uniform
from mesaopt.data.sampler import PLAIN, orthogonal
from mesaopt.data.sequences import generate, inputs_targets, training_batch
from mesaopt.data.tasks.contracting import contraction
from mesaopt.errors import InputError
from mesaopt.spec.run import Task
from mesaopt.spec.words import words
from mesaopt.store.tables import read_table, write_table

LINEAR = Task("linear")
FULLY_OBSERVED = ("linear", "contracting", "fixed_teacher")
SMALL = Task("linear", n_state=3, n_obs=3, context_length=5)


def test_normal_draws_follow_the_normal_distribution() -> None:
    draws = normal(generator(1, "train"), 100_001).double().sort().values
    steps = torch.arange(len(draws), dtype=torch.float64) / len(draws)
    # Kolmogorov-Smirnov: 1.63/sqrt(n) is the 1 % level
    assert (torch.special.ndtr(draws) - steps).abs().max() < 1.63 / len(draws) ** 0.5
    halves = normal(generator(2, "train"), 2, 50_000)
    assert abs(torch.corrcoef(halves)[0, 1].item()) < 0.015  # the two numbers of a Box-Muller pair are independent
    assert abs(torch.corrcoef(halves.square())[0, 1].item()) < 0.015


def test_uniform_draws_fill_their_interval() -> None:
    draws = uniform(generator(1, "train"), -1.0, 1.0, 50_000)
    assert draws.min() < -0.999 and 0.999 < draws.max() < 1
    assert abs(draws.mean().item()) < 0.01 and abs(draws.square().mean().item() - 1 / 3) < 0.01


def test_orthogonal_matrices_are_haar() -> None:
    n, size = 4000, 10
    w = orthogonal(generator(1, "train"), n, size).double()
    assert (w @ w.mT - torch.eye(size, dtype=torch.float64)).abs().max() < 1e-5
    assert w.mean(0).abs().max() < 5 / (n * size) ** 0.5
    torch.testing.assert_close(w.square().mean(0), torch.full((size, size), 1 / size).double(), rtol=0.15, atol=0)
    assert abs(w.pow(4).mean().item() - 3 / (size * (size + 2))) < 5e-4
    traces = w.diagonal(dim1=-2, dim2=-1).sum(-1)
    # E tr W = 0 and E (tr W)^2 = E tr W^2 = 1 hold for Haar measure only: without the sign of R's diagonal they fail
    assert abs(traces.mean().item()) < 0.06 and abs(traces.square().mean().item() - 1) < 0.1
    assert abs((w @ w).diagonal(dim1=-2, dim2=-1).sum(-1).mean().item() - 1) < 0.1
    assert abs(torch.linalg.det(w).mean().item()) < 0.06


def test_contracting_eigenvalues() -> None:
    w = contraction(generator(1, "train"), 300, 10).double()
    eigenvalues, vectors = torch.linalg.eig(w)
    # what rounding to float32 can do to an eigenvalue (Bauer and Fike)
    slack = 1.2e-7 * torch.linalg.cond(vectors) * torch.linalg.matrix_norm(w) + 1e-6
    assert (eigenvalues.imag.abs().amax(-1) < slack).all()
    real = eigenvalues.real.sort(-1).values
    assert ((real[:, -1] - 0.9).abs() < slack).all() and (real[:, 0] > 0.3 - slack).all()
    others = real[:, :-1]
    assert abs(others.mean().item() - 0.6) < 0.01 and abs(others.std().item() - 0.6 / 12**0.5) < 0.01


@pytest.mark.parametrize("name", FULLY_OBSERVED)
def test_sequences_follow_their_system(name: str) -> None:
    drawn = generate(Task(name), 1000, generator(3, "train"))
    s, w = drawn.observations, drawn.systems["W"]
    assert s.shape == (1000, 51, 10) and w.shape == (1000, 10, 10) and s.dtype == w.dtype == torch.float32
    bound = 2.0 if name == "contracting" else 10.0
    assert s.abs().max() <= bound and s[:, 0].abs().max() < 1
    expected = torch.einsum("bij,btj->bti", w.double(), s[:, :-1].double())
    residual = s[:, 1:].double() - expected
    inside = (s[:, 1:].abs() < bound) & (expected.abs() < bound - 0.1)
    noise = residual[inside]
    assert inside.double().mean() > 0.9
    assert abs(noise.std().item() / 0.01 - 1) < 0.01 and abs(noise.mean().item()) < 1e-4
    # noise is white: that of one step says nothing about that of the next
    both = inside[:, :-1] & inside[:, 1:]
    lagged = (residual[:, :-1] * residual[:, 1:])[both]
    assert abs(lagged.mean().item()) < 2e-2 * 0.01**2


def test_loss_of_the_zero_predictor() -> None:
    s = generate(LINEAR, 8000, generator(4, "train")).observations
    energy = 0.5 * s.square().sum(-1).mean(0)
    assert abs(energy[0].item() - 10 / 6) < 0.02
    # an orthogonal system keeps it, plus 10 x 0.01^2 / 2 a step
    assert abs(energy[-1].item() - energy[0].item() - 50 * 10 * 1e-4 / 2) < 0.01


def test_roll_out_equals_one_sequence_at_a_time() -> None:
    rng = generator(1, "train")
    w, first, noise = normal(rng, 7, 3, 3), normal(rng, 3, 7), normal(rng, 6, 3, 7)
    fast = PLAIN.roll_out(w, first, noise.clone(), 0.5, 1.5)
    for b in range(7):
        state = first[:, b].double()
        for t in range(6):
            state = (w[b].double() @ state + 0.5 * noise[t, :, b]).clamp(-1.5, 1.5)
            torch.testing.assert_close(fast[b, t + 1].double(), state, atol=2e-5, rtol=0)


def test_fixed_teacher_is_one_matrix_for_every_seed() -> None:
    task = Task("fixed_teacher")
    w = torch.cat([generate(task, 2, generator(seed, "train")).systems["W"] for seed in (1, 11)])
    assert (w == w[0]).all()
    assert (w[0] @ w[0].T - torch.eye(10)).abs().max() < 1e-5
    s = generate(task, 2, generator(1, "train")).observations
    assert not torch.equal(s[0], s[1])


@pytest.mark.parametrize("name", words("task kind"))
def test_a_pack_draws_what_separate_seeds_draw(name: str) -> None:
    pack = training_batch(Task(name), [1, 11, 111], 33, "train", 7)
    for i, seed in enumerate((1, 11, 111)):
        assert torch.equal(pack[i], training_batch(Task(name), [seed], 33, "train", 7)[0])


def test_streams_steps_and_seeds_differ() -> None:
    drawn = [training_batch(SMALL, [seed], 2, stream, step) for seed in (1, 2) for stream in ("train", "test") for step in (0, 1)]
    assert len({x.numpy().tobytes() for x in drawn}) == 8
    with pytest.raises(InputError, match="seed must not be negative"):
        generator(-1, "train")


DRAW = """
import hashlib
from mesaopt.data.sequences import training_batch
from mesaopt.spec.run import Task
from mesaopt.spec.words import words
print(hashlib.sha256(training_batch(Task("linear"), [11], 256, "train", 5).numpy().tobytes()).hexdigest())
"""


def test_another_process_with_more_threads_draws_the_same_bytes() -> None:
    env = os.environ | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    there = subprocess.run([sys.executable, "-c", DRAW], env=env, capture_output=True, text=True, check=True).stdout.strip()
    assert there == hashlib.sha256(training_batch(LINEAR, [11], 256, "train", 5).numpy().tobytes()).hexdigest()


def test_inputs_and_targets_are_one_step_apart() -> None:
    inputs, targets = inputs_targets(torch.arange(12.0).view(1, 4, 3))
    assert inputs[0, :, 0].tolist() == [0, 3, 6] and targets[0, :, 0].tolist() == [3, 6, 9]


def test_partial_observation_is_refused() -> None:
    with pytest.raises(InputError, match="fully observed: n_obs must be n_state = 10, not 5"):
        generate(dataclasses.replace(LINEAR, n_obs=5), 1, generator(1, "train"))


@pytest.fixture
def files(tmp_path):
    return tmp_path / "sequences.parquet", tmp_path / "systems.parquet"


def test_files_hold_the_drawn_sequences_and_systems(files) -> None:
    write_sequences(SMALL, 11, {"evaluation": 4, "probe_fit": 3}, *files)
    for split, count in (("evaluation", 4), ("probe_fit", 3)):
        drawn = generate(SMALL, count, generator(11, split))
        assert torch.equal(read_sequences(files[0], split), drawn.observations)
        systems = read_table(files[1], "systems").query("split == @split and matrix == 'W'")
        naive = np.full((count, 3, 3), np.nan, dtype=np.float32)
        for row in systems.itertuples():
            naive[row.sequence, row.row, row.col] = row.value
        assert (naive == drawn.systems["W"].numpy()).all()
    frame = read_table(files[0], "sequences")
    assert frame["t"].min() == 1 and frame["t"].max() == 6


def test_files_are_reproducible_and_splits_independent(files, tmp_path) -> None:
    write_sequences(SMALL, 1, {"evaluation": 4, "probe_fit": 3}, *files)
    again = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_sequences(SMALL, 1, {"evaluation": 4, "probe_fit": 3}, *again)
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]
    write_sequences(SMALL, 1, {"evaluation": 4}, *again)
    assert torch.equal(read_sequences(again[0], "evaluation"), read_sequences(files[0], "evaluation"))


def test_fixed_teacher_writes_its_matrix_once(files) -> None:
    write_sequences(dataclasses.replace(SMALL, kind="fixed_teacher"), 1, {"evaluation": 4}, *files)
    systems = read_table(files[1], "systems")
    assert len(systems) == 9 and (systems["sequence"] == 0).all()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"training": 4}, "unknown split 'training': one of evaluation, probe_fit, probe_score"),
        ({"evaluation": 0}, "split evaluation needs at least 1 sequence, not 0"),
        ({}, "no split to draw"),
    ],
)
def test_wrong_counts_are_refused(files, counts, message) -> None:
    with pytest.raises(InputError, match=message):
        write_sequences(SMALL, 1, counts, *files)
    assert not files[0].exists() and not files[1].exists()


def test_damaged_files_are_refused(files) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_sequences(files[0], "evaluation")
    write_sequences(SMALL, 1, {"evaluation": 4}, *files)
    with pytest.raises(InputError, match="no split 'probe_fit'; it has evaluation"):
        read_sequences(files[0], "probe_fit")
    frame = read_table(files[0], "sequences")
    for broken in (frame.drop(index=3), frame.iloc[::-1], pd.concat((frame.iloc[:1], frame.iloc[2:], frame.iloc[1:2]))):
        write_table(broken, "sequences", files[0])
        with pytest.raises(InputError, match="damaged"):
            read_sequences(files[0], "evaluation")
