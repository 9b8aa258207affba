"""Prompts of few-shot regression, position by position, and the pairs that they are made of."""

import pytest
import torch

from mesaopt.data.prompts import Form, Place, Prompt, one_task, two_tasks
from mesaopt.data.random import generator
from mesaopt.data.sequences import generate
from mesaopt.errors import InputError
from mesaopt.spec.run import Task

PLAIN, EOS, PREFIXED = Form(), Form(separators=1), Form(prefix=20, separators=1)


def words(places: list[Place]) -> str:
    """x0 y0 E0 ...: a capital letter for what is tuned, a dash for what is of the second task."""
    letters = {"x": "x", "y": "y", "separator": "E", "prefix": "P"}
    return " ".join(f"{letters[place.kind]}{place.number}{chr(39) * place.task}" for place in places)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Form(), "x0 y0 x1 y1 x2 y2 x3 y3 x4 y4 x5"),
        (Form(separators=1), "x0 y0 E0 x1 y1 E0 x2 y2 E0 x3 y3"),
        (Form(prefix=2, separators=1), "P0 P1 x0 y0 E0 x1 y1 E0 x2 y2 E0"),
        (Form(prefix=1, separators=2), "P0 x0 y0 E0 E1 x1 y1 E0 E1 x2 y2"),
        (Form(prefix=12), "P0 P1 P2 P3 P4 P5 P6 P7 P8 P9 P10"),
    ],
)
def test_one_task_by_hand(form: Form, expected: str) -> None:
    assert words(one_task(form, 11)) == expected


def test_two_tasks_by_hand() -> None:
    assert words(two_tasks(Form(), 9, 2)) == "x0 y0 x1 y1 x0' y0' x1' y1' x2'"
    assert words(two_tasks(Form(separators=1), 10, 1)) == "x0 y0 E0 x0' y0' E0 x1' y1' E0 x2'"
    assert words(two_tasks(Form(1, 1), 12, 1)) == "P0 x0 y0 E0 P0 x0' y0' E0 x1' y1' E0 x2'"
    # as published: a number of positions, which may cut the last separator of the first task
    assert words(two_tasks(Form(separators=1), 10, 99, 5)) == "x0 y0 E0 x1 y1 x0' y0' E0 x1' y1'"
    for pairs, tokens in ((5, None), (0, None), (2, 9), (2, 1)):
        with pytest.raises(InputError, match="leaves no room for a pair of each task in 10"):
            two_tasks(Form(), 10, pairs, tokens)


@pytest.mark.parametrize(
    ("form", "one", "first", "second", "change"),
    [
        (PLAIN, 112, 40, 72, "x39 y39 x0' y0'"),
        (EOS, 75, 27, 48, "x26 y26 x0' y0'"),
        (PREFIXED, 68, 20, 42, "y19 E0 P0 P1"),
    ],
    ids=["plain", "eos", "prefix"],
)
def test_published_prompts_have_the_published_numbers_of_pairs(
    form: Form, one: int, first: int, second: int, change: str
) -> None:
    """The table of PAPER section 2: T = 224, and 80 positions of the first task."""
    alone, changed = Prompt(one_task(form, 224)), Prompt(two_tasks(form, 224, 20, 80))
    assert (len(alone.places), len(alone.asked)) == (224, one)
    assert [sum(place.task == task for place in changed.asked) for task in (0, 1)] == [first, second]
    assert words(changed.places[78:82]) == change
    ours = Prompt(two_tasks(form, 224, 20))
    assert [place.number for place in ours.asked if place.task == 0] == list(range(20))


def test_positions_that_are_scored() -> None:
    assert Prompt(one_task(PLAIN, 224)).scored == list(range(0, 224, 2))
    assert Prompt(one_task(EOS, 224)).scored == list(range(0, 224, 3))
    assert Prompt(one_task(PREFIXED, 224)).scored == list(range(20, 224, 3))


def test_what_a_model_reads_and_must_predict_by_hand() -> None:
    """Element e of sequence b of task t is 100 t + 10 b + e in its first channel."""
    tasks = torch.tensor([[[[100.0 * t + 10 * b + e, -1.0] for e in range(6)] for b in range(2)] for t in range(2)])
    tokens = {"separator": torch.tensor([[7.0, 8.0]]), "prefix": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    prompt = Prompt(two_tasks(Form(2, 1), 13, 1))
    assert words(prompt.places) == "P0 P1 x0 y0 E0 P0 P1 x0' y0' E0 x1' y1' E0"
    inputs = prompt.inputs(tasks, tokens)
    assert inputs[0, :, 0].tolist() == [1, 3, 0, 1, 7, 1, 3, 100, 101, 7, 102, 103, 7]
    assert inputs[1, :, 0].tolist() == [1, 3, 10, 11, 7, 1, 3, 110, 111, 7, 112, 113, 7]
    assert inputs[0, :, 1].tolist() == [2, 4, -1, -1, 8, 2, 4, -1, -1, 8, -1, -1, 8]
    assert prompt.scored == [2, 7, 10]
    assert prompt.labels(tasks)[:, :, 0].tolist() == [[1, 101, 103], [11, 111, 113]]
    assert prompt.questions(tasks)[:, :, 0].tolist() == [[0, 100, 102], [10, 110, 112]]
    assert [(place.task, place.number) for place in prompt.asked] == [(0, 0), (1, 0), (1, 1)]


def test_a_plain_prompt_is_the_sequence() -> None:
    sequences = torch.randn(3, 12, 4)
    assert torch.equal(Prompt(one_task(PLAIN, 11)).inputs(sequences[None], {}), sequences[:, :11])


def test_only_tuned_tokens_have_gradients() -> None:
    tokens = {"separator": torch.zeros(1, 2, requires_grad=True)}
    Prompt(one_task(EOS, 9)).inputs(torch.randn(1, 4, 10, 2), tokens).sum().backward()
    assert tokens["separator"].grad.tolist() == [[12.0, 12.0]], "three separators in four sequences"


def test_pairs_are_those_of_the_system() -> None:
    task = Task("few-shot", n_state=5, n_obs=5, context_length=9, kind="few_shot")
    drawn = generate(task, 300, generator(1, "evaluation"))
    x, y, w = drawn.observations[:, 0::2].double(), drawn.observations[:, 1::2].double(), drawn.systems["W"].double()
    noise = y - torch.einsum("bij,bkj->bki", w, x)
    assert x.shape == y.shape == (300, 5, 5)
    assert abs(noise.std().item() / 0.01 - 1) < 0.03 and noise.abs().max() < 0.06
    assert (w @ w.mT - torch.eye(5)).abs().max() < 1e-5
    assert x.abs().max() <= 1 and abs(x.square().mean().item() * 3 - 1) < 0.03
    quiet = Task("few-shot", n_state=5, n_obs=5, context_length=8, kind="few_shot", state_noise=0.0)
    odd = generate(quiet, 3, generator(1, "evaluation"))
    assert odd.observations.shape == (3, 9, 5)
    torch.testing.assert_close(odd.observations[:, 1], torch.einsum("bij,bj->bi", odd.systems["W"], odd.observations[:, 0]))
