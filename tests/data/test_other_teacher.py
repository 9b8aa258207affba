"""Other teachers: one matrix for all sequences and seeds each, the first of them that of `fixed_teacher`."""

import pytest
import torch

from mesaopt.data.random import generator
from mesaopt.data.sequences import generate
from mesaopt.errors import InputError
from mesaopt.spec.run import Task


def drawn(number: int, seed: int = 1, n: int = 20):
    task = Task("teacher", n_state=4, n_obs=4, context_length=6, kind="other_teacher", teacher=number)
    return generate(task, n, generator(seed, "train", 0))


def test_number_0_is_the_fixed_teacher() -> None:
    plain = generate(Task("fixed_teacher", n_state=4, n_obs=4, context_length=6), 20, generator(1, "train", 0))
    assert torch.equal(drawn(0).observations, plain.observations) and torch.equal(drawn(0).systems["W"], plain.systems["W"])


def test_a_teacher_is_one_orthogonal_matrix_whatever_the_seed_and_no_other_one() -> None:
    found = [drawn(number, seed).systems["W"] for number in (1, 2) for seed in (1, 11)]
    for matrices in found:
        assert torch.equal(matrices, matrices[:1].expand_as(matrices))
        torch.testing.assert_close(matrices[0] @ matrices[0].mT, torch.eye(4), atol=1e-5, rtol=0)
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], found[3]) and not torch.equal(found[0], found[2])


def test_states_follow_the_teacher() -> None:
    sequences = drawn(2, n=50)
    moved = sequences.observations[:, :-1] @ sequences.systems["W"].mT
    assert (sequences.observations[:, 1:] - moved).std() < 0.02


def test_a_number_is_for_tasks_with_a_teacher_alone() -> None:
    with pytest.raises(InputError, match="task linear: teacher is for kind other_teacher"):
        Task("linear", teacher=2)
    with pytest.raises(InputError, match="teacher must not be negative, not -1"):
        Task("t", kind="other_teacher", teacher=-1)
