"""Few-shot regression, from a trained model and pairs to tables: against least squares by loops, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from stage_files import MODELS, TASK, N, sequences, transformer

from mesaopt.analyses.few_shot import early_ascent, few_shot_table, overlapping, pairs_alone, searched_inverse_lam
from mesaopt.analyses.prompt_tokens import read_tokens, write_tokens
from mesaopt.data.files import read_sequences
from mesaopt.data.prompts import Form, Prompt, one_task, two_tasks
from mesaopt.errors import InputError
from mesaopt.models.transformer import initialise
from mesaopt.models.weights import save_weights
from mesaopt.spec.analysis import Labels, Prompts
from mesaopt.spec.run import Run, Training
from mesaopt.stages.few_shot import few_shot_stage
from mesaopt.stages.tune_prompts import tune_prompts_stage
from mesaopt.store.tables import read_table, write_table
from mesaopt.training.run_folder import write_spec

LONG = replace(TASK, context_length=26)
PAIRS = replace(LONG, name="few-shot", kind="few_shot")
SETTINGS = Labels(first_pairs=3)
TUNING = Prompts(separators=1, prefix=2, steps=3, separator_batch=4, prefix_batch=4)


def least_squares(x: torch.Tensor, y: torch.Tensor, question: torch.Tensor, inverse_lam: float) -> torch.Tensor:
    """argmin_W sum |y_i - W x_i|^2 + inverse_lam |W|^2, times the question; x (pairs, n)."""
    return y.mT @ x @ torch.linalg.inv(x.mT @ x + inverse_lam * torch.eye(N).double()) @ question


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return sequences(tmp_path, PAIRS, evaluation=6, probe_fit=4)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "run/seed-1"
    folder.mkdir(parents=True)
    run = Run("linear/softmax", LONG, MODELS["softmax"], Training(lr=1e-3, steps=1))
    write_spec(run, 1, folder / "spec.json")
    save_weights(initialise(run.model, N, [1]).seed_weights(0), folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.mark.parametrize("switch", [False, True], ids=["one", "two"])
def test_least_squares_against_loops(pairs: Path, switch: bool) -> None:
    """1e-5; x of pair k, and the pairs before it, one at a time."""
    drawn = read_sequences(pairs, "evaluation").double()
    tasks = torch.stack((drawn[0::2], drawn[1::2])) if switch else drawn[None]
    prompt = Prompt(two_tasks(Form(), 26, 3) if switch else one_task(Form(), 26))
    found = overlapping(prompt, tasks, 0.01), pairs_alone(prompt, tasks, 0.01)
    elements, inputs = prompt.labels(tasks), prompt.inputs(tasks, {})
    for b in range(tasks.shape[1]):
        for k, place in enumerate(prompt.scored):
            read, label = inputs[b, :place], elements[b, k]
            # neighbours of what was read, x_k itself being no value of any pair yet
            both = least_squares(read[:-1], read[1:], inputs[b, place], 0.01) if place else torch.zeros(N).double()
            alone = least_squares(read[0::2], read[1::2], inputs[b, place], 0.01)
            for values, prediction in zip(found, (both, alone), strict=True):
                expected = 0.5 * (prediction - label).square().sum()
                torch.testing.assert_close(values[b, k], expected, rtol=1e-5, atol=1e-9)


def test_rows_of_the_table_by_hand(pairs: Path) -> None:
    """The model's errors, read off its predictions one sequence at a time; where the table draws them after a change of task."""
    model, drawn = transformer("softmax"), read_sequences(pairs, "evaluation")
    tokens = {"separator": torch.ones(1, N), "prefix": torch.zeros(2, N)}
    table = few_shot_table(model, drawn, tokens, SETTINGS)
    assert table.groupby(["tasks", "predictor"], sort=False).size().to_dict() == {
        ("one", "model"): 13,
        ("one", "model_eos"): 9,
        ("one", "model_eos_prefix"): 8,
        ("one", "lsq"): 13,
        ("one", "lsq_pairs"): 13,
        ("one", "zero"): 13,
        ("two", "model"): 3 + 10,
        ("two", "model_eos"): 3 + 6,
        ("two", "model_eos_prefix"): 3 + 5,
        ("two", "lsq"): 13,
        ("two", "lsq_pairs"): 13,
        ("two", "zero"): 13,
    }
    eos = table[(table["predictor"] == "model_eos") & (table["tasks"] == "two")]
    assert eos["task"].tolist() == [1] * 3 + [2] * 6 and eos["k"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]
    assert eos["pair"].tolist() == list(range(9))
    errors = []
    for first, second in ((drawn[0], drawn[1]), (drawn[2], drawn[3]), (drawn[4], drawn[5])):
        read = [
            *(e for i in range(3) for e in (first[2 * i], first[2 * i + 1], torch.ones(N))),
            *(e for i in range(7) for e in (second[2 * i], second[2 * i + 1], torch.ones(N))),
        ]
        with torch.no_grad():
            predicted = model(torch.stack(read[:26])[None, None])[0, 0]
        errors.append((predicted[9 + 3 * 2] - second[2 * 2 + 1]).double().square().sum() / 2)
    assert eos["mse"].iloc[3 + 2] == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
    zero = table[(table["predictor"] == "zero") & (table["tasks"] == "one")]
    assert zero["mse"].iloc[4] == pytest.approx(drawn[:, 9].double().square().sum(-1).mean().item() / 2, rel=1e-6)


def test_unequal_first_tasks_are_drawn_as_far_as_all_have_them(pairs: Path) -> None:
    """11 positions: 6 x of the plain prompt, 4 with separators, 3 after a prefix of two."""
    tokens = {"separator": torch.ones(1, N), "prefix": torch.zeros(2, N)}
    table = few_shot_table(transformer("softmax"), read_sequences(pairs, "evaluation"), tokens, Labels(first_tokens=11))
    two = table[table["tasks"] == "two"]
    assert two[two["task"] == 1].groupby("predictor")["k"].max().eq(2).all()
    assert two[two["task"] == 2].groupby("predictor")["pair"].min().eq(3).all()


def test_early_ascent() -> None:
    curves = {
        "up": [9.0, 2.2, 3.0, 1.0, 2.1],
        "down": [1.0, 0.9, 0.8, 0.7, 0.1],
        "short": [2.0, 1.0, 3.0],
        "zero": [2.0, 2.0, 1.5, 2.0, 2.0],
    }
    frames = [pd.DataFrame({"predictor": name, "tasks": "one", "k": range(len(of)), "mse": of}) for name, of in curves.items()]
    frames.append(frames[0].assign(tasks="two", mse=9.0))
    found = early_ascent(pd.concat(frames)).set_index("predictor")
    assert found.loc["up"].tolist() == [2.0, 2, 3], "what is before the first pair does not count"
    assert found.loc["down"].tolist() == pytest.approx([0.8 / 1.5, 2, 0])
    assert found.loc["short"].tolist() == [2.0, 2, 1] and "zero" not in found.index


def test_the_stages_from_weights_to_tables(pairs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    tokens, tuning = tmp_path / "tokens.parquet", tmp_path / "tuning.parquet"
    tune_prompts_stage(weights, PAIRS, tmp_path / "checkpoints", tokens, tuning, TUNING)
    assert "separator: loss" in capsys.readouterr().out and not (tmp_path / "checkpoints/prompts/linear/softmax").exists()
    assert set(read_table(tuning, "tuning")["token"]) == {"separator", "prefix"}
    out, ascent = tmp_path / "few_shot.parquet", tmp_path / "ascent.parquet"
    few_shot_stage(weights, pairs, tokens, out, ascent, SETTINGS)
    table = read_table(out, "few_shot")
    model = initialise(MODELS["softmax"], N, [1])
    searched = searched_inverse_lam(read_sequences(pairs, "probe_fit"), SETTINGS)
    again = few_shot_table(model, read_sequences(pairs, "evaluation"), read_tokens(tokens, N), SETTINGS, searched)
    pd.testing.assert_frame_equal(table, again[table.columns], check_dtype=False)
    assert len(read_table(ascent, "early_ascent")) == 6


def test_the_regulariser_is_the_best_of_the_grid(pairs: Path) -> None:
    drawn, prompt = read_sequences(pairs, "evaluation")[None], Prompt(one_task(Form(), 26))
    grid = [10 ** (-3 + 4 * i / 19) for i in range(20)]
    errors = [overlapping(prompt, drawn, value).double().mean().item() for value in grid]
    assert searched_inverse_lam(drawn[0], SETTINGS) == pytest.approx(grid[errors.index(min(errors))])
    table = few_shot_table(transformer("softmax"), drawn[0], {"separator": torch.ones(1, N)}, SETTINGS, 0.5)
    found = table[(table["predictor"] == "lsq_searched") & (table["tasks"] == "one")]["mse"]
    assert found.tolist() == pytest.approx(overlapping(prompt, drawn, 0.5).double().mean(0).tolist(), rel=1e-6)


def test_tokens_come_back_as_they_were(tmp_path: Path) -> None:
    tokens = {"separator": torch.randn(2, N), "prefix": torch.randn(12, N)}
    write_tokens(tokens, tmp_path / "tokens.parquet")
    found = read_tokens(tmp_path / "tokens.parquet", N)
    assert found.keys() == tokens.keys() and all(torch.equal(found[kind], of) for kind, of in tokens.items())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (LONG, "task linear makes no pairs: its kind is linear, not few_shot"),
        (replace(PAIRS, n_state=4, n_obs=4), "3 channels and a context of 26; the pairs of task few-shot have 4 and 26"),
        (replace(PAIRS, context_length=30), "the pairs of task few-shot have 3 and 30"),
    ],
)
def test_pairs_that_do_not_fit_are_one_line(task, message: str, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        tune_prompts_stage(weights, task, tmp_path / "checkpoints", tmp_path / "a", tmp_path / "b", TUNING)


def test_a_prompt_longer_than_the_context_is_one_line(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a prompt of two pairs has 36 positions; the context length is 26"):
        tune_prompts_stage(weights, PAIRS, tmp_path / "c", tmp_path / "a", tmp_path / "b", Prompts(prefix=30))


def test_damaged_tokens_and_short_sequences_are_one_line(weights: Path, tmp_path: Path, pairs: Path) -> None:
    tokens = tmp_path / "tokens.parquet"
    write_tokens({"separator": torch.randn(2, N)}, tokens)
    with pytest.raises(InputError, match="not whole, or not 4 channels wide"):
        read_tokens(tokens, 4)
    table = read_table(tokens, "prompt_tokens")
    write_table(table.iloc[:-1], "prompt_tokens", tokens)
    with pytest.raises(InputError, match="separator are not whole"):
        read_tokens(tokens, N)
    write_table(table.assign(token="prefix"), "prompt_tokens", tokens)
    with pytest.raises(InputError, match="there is no separator"):
        read_tokens(tokens, N)
    write_table(table, "prompt_tokens", tokens)
    short = sequences(tmp_path, replace(PAIRS, context_length=8), evaluation=4)
    with pytest.raises(InputError, match="needs at least 2 sequences of 27 elements, has 4 of 9"):
        few_shot_stage(weights, short, tokens, tmp_path / "a", tmp_path / "b", SETTINGS)
