"""Batches by counter: the words of the published generator, numbers of the right laws, and the same on a GPU's code."""

import numpy as np
import pytest
import torch
from cuda_emulation import emulated_kernels
from native_models import lsa

from mesaopt.backends.cuda.draw import DeviceDraws
from mesaopt.backends.cuda.shape import shape_of
from mesaopt.data import counted
from mesaopt.data.counted import KINDS, Section, Source, key, philox, training_batch
from mesaopt.data.random import generator
from mesaopt.data.sampler import PLAIN
from mesaopt.data.sequences import training_batch as drawn_otherwise
from mesaopt.errors import InputError
from mesaopt.spec.run import Run, Task, Training
from mesaopt.spec.words import module, words

TASKS = {
    "linear": Task("linear"),
    "contracting": Task("contracting"),
    "fixed_teacher": Task("fixed_teacher", 4, 4, 12),
    "partial": Task("partial", 15, 5),
    "nonlinear": Task("nonlinear", state_noise=0.02),
    "unclipped": Task("unclipped", context_length=20, state_noise=0.5),
    "other_teacher": Task("other_teacher", 4, 4, 12, teacher=2),
    "few_shot": Task("few_shot", 5, 5, 12),
}


def run_of(task: Task, batch: int = 40) -> Run:
    return Run("test/counted", task, lsa(d_model=4 * task.n_obs), Training(lr=1e-3, steps=1, batch=batch))


@pytest.mark.parametrize(
    ("counter", "of_key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_words_are_those_published_with_the_generator(counter, of_key, expected):
    """The known answers that come with Random123."""
    found = philox(np.array(counter, dtype=np.uint32)[:, None], np.array(of_key, dtype=np.uint32))
    assert found[:, 0].tolist() == expected


def test_every_word_has_one_place():
    source = Source(key(1, "train"), 5, 3)
    words_ = source.words(Section.NOISE, 30)
    assert words_.shape == (5, 30) and len(np.unique(words_)) == 150
    assert np.array_equal(Source(key(1, "train"), 2, 3).words(Section.NOISE, 7), words_[:2, :7])
    for other in (Source(key(2, "train"), 5, 3), Source(key(1, "test"), 5, 3), Source(key(1, "train"), 5, 4)):
        assert not (other.words(Section.NOISE, 30) == words_).any()
    assert not (source.words(Section.W, 30) == words_).any()


def test_laws_are_of_kinds_that_there_are():
    assert set(KINDS) == set(TASKS) == set(words("task kind"))


@pytest.mark.parametrize("name", TASKS)
def test_sequences_have_the_law_of_the_task(name):
    """First and second moments of 4000 sequences at every position are those of today's generator; to six standard errors."""
    run = run_of(TASKS[name], 4000)
    ours = training_batch(run, [1], 0)[0].double()
    theirs = drawn_otherwise(run.task, [1], 4000, "train", 0)[0].double()
    assert ours.shape == theirs.shape
    lagged = (lambda x: x[:, 1:] * x[:, :-1], lambda x: x[:, 1:] * x[:, 1:].roll(1, -1))
    for moment in (lambda x: x, torch.square, *lagged):
        a, b = moment(ours), moment(theirs)
        spread = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 6 * spread + 1e-9).all()


def perturbed(run: Run, seeds: list[int], step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The batch when every normal number is off by 1e-6 of itself, in a way of its own for every `number`."""
    normal, noise = Source.normal, torch.Generator().manual_seed(number)

    def off(self, *shape):
        numbers = normal(self, *shape)
        return numbers * (1 + 1e-6 * torch.randn(numbers.shape, generator=noise))

    with monkeypatch.context() as patch:
        patch.setattr(Source, "normal", off)
        return training_batch(run, seeds, step)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", TASKS)
def test_a_gpu_draws_the_same(name, monkeypatch):
    """Up to ten times what errors of 1e-6 in the normal numbers do to each sequence: badly conditioned systems amplify them, and
    in some directions only, so the largest of five such errors counts.
    """
    run, task = run_of(TASKS[name]), TASKS[name]
    kernels = emulated_kernels(shape_of(run.model, task.n_obs, task.context_length, task.n_state))
    observations = torch.empty(2, run.training.batch, task.context_length + 1, task.n_obs)
    draws = DeviceDraws(kernels, run, [1, 11], torch.device("cpu"))
    for step in (0, 12345):
        draws.draw(torch.tensor([step], dtype=torch.int32), observations)
        expected = training_batch(run, [1, 11], step)
        others = (perturbed(run, [1, 11], step, number, monkeypatch) for number in range(5))
        errors, *allowed = ((other - expected).abs().amax((2, 3)) for other in (observations, *others))
        assert (errors <= 10 * torch.stack(allowed).amax(0) + 1e-5).all() and errors.median() < 2e-5


@pytest.mark.parametrize("context_length", [6, 7])
def test_pairs_are_labelled_by_their_own_x(context_length):
    """Labels are W x up to the noise, whether or not the last x has one; its W is that of the first word of the sequence."""
    task = Task("few_shot", 3, 3, context_length, state_noise=1e-4)
    source = Source(key(1, "train"), 6, 2)
    found = counted.draw(task, source)
    assert found.shape == (6, context_length + 1, 3) and found[:, ::2].abs().max() <= 1
    w = PLAIN.orthogonal(Source(key(1, "train"), 6, 2).normal(Section.W, 3, 3))
    labels = found[:, 1::2]
    assert torch.allclose(labels, found[:, ::2][:, : labels.shape[1]] @ w.mT, atol=1e-3)


def test_a_teacher_is_that_of_the_plain_sampler():
    for task in (TASKS["fixed_teacher"], TASKS["other_teacher"]):
        made = module("task kind", task.kind).GENERATOR.draw(task, 2, generator(1, "train"), PLAIN)
        assert torch.equal(counted.teacher(task), made.systems["W"][0])


def test_a_kind_without_a_law_is_refused(monkeypatch):
    monkeypatch.delitem(counted.KINDS, "linear")
    with pytest.raises(InputError, match="sequences of kind linear are not drawn by counter; leave out generator: philox"):
        training_batch(run_of(Task("linear")), [1], 0)
