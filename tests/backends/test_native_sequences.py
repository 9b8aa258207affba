"""Training batches drawn by native code against those of NumPy and PyTorch: the same draws, up to rounding."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mesaopt.backends.native.backend import NativeBackend
from mesaopt.backends.native.sequences import NativeSampler
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.mlp import Mlp, random_mlp
from mesaopt.data.random import generator, normal, uniform
from mesaopt.data.sampler import PLAIN, orthogonal
from mesaopt.data.sequences import generate, training_batch
from mesaopt.spec.run import Task
from mesaopt.spec.words import words

pytestmark = pytest.mark.usefixtures("kernels")
#: below, at and above the number of lanes of every processor, and multiples of it
SIZES = (1, 3, 4, 5, 15, 16, 17, 40)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("shape", [(1,), (2,), (31,), (33, 3), (5, 10, 16), (100_000,)])
def test_normal_numbers_are_the_plain_ones(shape, held):
    """Within 1e-6 times the largest radius, and the generator goes on from the same place, also in the middle of a word."""
    native, plain = (generator(1, "train") for _ in range(2))
    for rng in (native, plain) if held else ():
        rng.random(3, dtype=np.float32)
    found, expected = NativeSampler(10).normal(native, *shape), normal(plain, *shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
    assert found.shape == shape and found.dtype == torch.float32
    assert np.array_equal(native.random(7), plain.random(7))


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.Philox])
@pytest.mark.parametrize("count", [2, 4, 6, 8, 14, 1000])
def test_words_are_those_of_the_generator(count, kind):
    """Bit for bit, call after call, and other generators than NumPy's default are asked themselves."""
    native, plain = np.random.Generator(kind(7)), np.random.Generator(kind(7))
    for _ in range(3):
        words = NativeSampler(10).words(native, count)
        assert np.array_equal((words >> 8) * np.float32(2**-24), plain.random(count, dtype=np.float32))
        assert native.random() == plain.random()


def test_normal_numbers_against_float64():
    """Five units in the last place of the radius, over all quarters of the circle and down to the smallest uniform number."""
    words = np.concatenate([np.arange(0, 2**32, 40_009, dtype=np.uint64), [0, 2**32 - 1, 2**30, 2**31, 3 * 2**30, 255]])
    words = np.random.default_rng(0).permutation(words).astype(np.uint32)
    words = np.concatenate([words, words[::-1]])

    u = (words >> 8).astype(np.float64) * 2.0**-24
    radius, angle = np.sqrt(-2 * np.log(1 - u[: len(u) // 2])), 2 * math.pi * u[len(u) // 2 :]
    found = NativeSampler(10).box_muller(words.copy()).numpy().reshape(2, -1)
    errors = np.abs(found - radius * np.stack([np.cos(angle), np.sin(angle)]))
    assert (errors <= 5 * 2.0**-24 * np.maximum(radius, 1e-3)).all(), errors.max()


@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(n=st.sampled_from(SIZES), size=st.sampled_from((1, 2, 5, 10)))
def test_orthogonal_matrices_are_the_q_of_lapack(n, size):
    """Within rounding times the condition of the Gaussian matrix; orthogonal within rounding whatever the condition."""
    gaussian = normal(generator(n, "train"), n, size, size)
    q = NativeSampler(size).orthogonal(gaussian.clone()).double()
    expected = PLAIN.orthogonal(gaussian.double())
    bound = 1e-6 * (1 + torch.linalg.cond(gaussian.double()))
    assert ((q - expected).abs().amax((1, 2)) <= bound).all()
    assert (q.mT @ q - torch.eye(size, dtype=torch.float64)).abs().max() < 1e-6


@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(n=st.sampled_from(SIZES), size=st.sampled_from((1, 2, 5, 10)), time=st.integers(1, 9), bound=st.sampled_from([0.8, 10.0]))
def test_states_are_those_of_the_plain_roll_out(n, size, time, bound):
    """Absolute 1e-5 for states of order one."""
    rng = generator(time, "train")
    w, first, noise = PLAIN.orthogonal(normal(rng, n, size, size)), uniform(rng, -1.0, 1.0, size, n), normal(rng, time, size, n)
    found = NativeSampler(size).roll_out(w, first, noise, 0.3, bound)
    torch.testing.assert_close(found, PLAIN.roll_out(w, first, noise.clone(), 0.3, bound), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("size", "hidden"), [(2, 8), (5, 3), (10, 40), (10, 13)])
def test_states_of_an_mlp_against_float64(n, size, hidden):
    """Absolute 1e-5 after three steps, also where all units are nearly off, so that the norm makes much of little."""
    rng = generator(hidden, "train")
    w, first, noise = PLAIN.orthogonal(normal(rng, n, size, size)), uniform(rng, -3.0, 3.0, size, n), normal(rng, 3, size, n)
    mlp = random_mlp(rng, size, hidden, 1.1)
    found = NativeSampler(size).roll_out(w, first, noise, 0.3, math.inf, mlp)
    expected = [first.T.double()]
    for t in range(3):
        step = torch.einsum("nij,nj->ni", w.double(), mlp.normalised(expected[-1]))
        expected.append(step + 0.3 * noise[t].T.double())
    torch.testing.assert_close(found.double(), torch.stack(expected, 1), rtol=0, atol=1e-5)


def test_gelu_is_right_everywhere():
    """A unit at a time, from far below zero to far above, before the sign is all that the norm leaves: two units, one of them a
    constant, so that the direction tells the value."""
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, 1e4, 0.0, -1e-6, 1e-6])])
    first = torch.stack([x, torch.ones_like(x)])
    mlp = Mlp(torch.eye(2), torch.eye(2))
    found = NativeSampler(2).roll_out(torch.eye(2).expand(len(x), 2, 2), first, torch.zeros(1, 2, len(x)), 1.0, math.inf, mlp)
    expected = mlp.normalised(first.T.double())
    torch.testing.assert_close(found[:, 1].double(), expected, rtol=2e-6, atol=3e-7)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("size", "n_obs", "length"), [(1, 1, 1), (15, 5, 9), (10, 10, 3), (5, 2, 51)])
def test_observations_are_the_plain_ones(n, size, n_obs, length):
    """Absolute 1e-5 for sums of up to fifteen products of order one."""
    rng = generator(n, "train")
    c, states, noise = normal(rng, n, n_obs, size), normal(rng, n, length, size), normal(rng, n, length, n_obs)
    found = NativeSampler(size).observe(c, states, noise.clone(), 0.3)
    torch.testing.assert_close(found, PLAIN.observe(c, states, noise, 0.3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mlp", [None, 8])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("size", [1, 2, 10])
@pytest.mark.parametrize("time", [1, 2, 7])
@pytest.mark.parametrize("n", [*SIZES, 2, 30, 34])
def test_states_are_those_of_numbers_drawn_before(n, time, size, held, mlp):
    """Absolute 1e-6, and the generator goes on from the same place; also from the middle of a word."""
    found_rng, expected_rng = (generator(n, "train") for _ in range(2))
    for rng in (found_rng, expected_rng) if held else ():
        rng.random(3, dtype=np.float32)
    w, sampler = orthogonal(generator(1, "task"), n, size), NativeSampler(size)
    start, mlp = (1.0, None) if mlp is None else (0.25, random_mlp(generator(2, "task"), size, mlp, 1.0))
    found = sampler.states(found_rng, w, time, 0.3, 1.5, start, mlp)
    first = uniform(expected_rng, -start, start, size, n)
    expected = sampler.roll_out(w, first, sampler.normal(expected_rng, time, size, n), 0.3, 1.5, mlp)
    assert torch.equal(found[:, 0], first.T)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found_rng.random() == expected_rng.random()


def test_nan_and_infinity_come_through():
    first = torch.tensor([[math.nan, math.inf, 0.5]])
    states = NativeSampler(1).roll_out(torch.ones(3, 1, 1), first, torch.zeros(2, 1, 3), 1.0, 10.0)
    assert states[0].isnan().all() and states[1, :, 0].tolist() == [math.inf, 10, 10] and states[2].eq(0.5).all()


@pytest.mark.parametrize("size", [33, 256])
@pytest.mark.parametrize("name", words("task kind"))
def test_a_training_batch_is_the_plain_one(name, size):
    """Within 1e-5 of its largest entry for the median sequence. Rounding grows with the condition of the matrix that a system is
    made of, and where that is bad a contracting system of large entries, clipped at 2, may go anywhere: fewer than one sequence
    in fifty. One nonlinear system in twenty-five is so chaotic that rounding shows at t = 51; they are compared up to t = 21."""
    task = Task(name, 15, 5) if name == "partial" else Task(name)
    found = training_batch(task, [1, 11], size, "train", 4, sampler=NativeBackend().sampler(task))
    expected = training_batch(task, [1, 11], size, "train", 4, sampler=TorchBackend().sampler(task))
    compared = slice(21 if name == "nonlinear" else None)
    errors = ((found - expected)[:, :, compared].abs().amax((2, 3)) / expected.abs().amax((2, 3))).flatten()
    assert errors.median() < 1e-5 and (errors < 1e-3).double().mean() > 0.98 and found.shape == (2, size, 51, task.n_obs)


def test_systems_that_are_told_are_those_of_the_sequences():
    drawn = generate(Task("linear"), 40, generator(3, "train"), sampler=NativeSampler(10))
    residual = drawn.observations[:, 1:] - torch.einsum("bij,btj->bti", drawn.systems["W"], drawn.observations[:, :-1])
    assert abs(residual.std().item() / 0.01 - 1) < 0.05
