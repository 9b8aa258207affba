"""What a scale changes beside runs: tasks, and the runs that its figures do without."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mesaopt.errors import InputError
from mesaopt.figures.registry import FIGURES, figure, inputs, runs
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.run import Task
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.tables import read_table

ROOT = Path(__file__).parents[2]
FILES = {name: read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales")}


def plan(scale: str, **changes: Any) -> Plan:
    scales = copy.deepcopy(FILES["scales"])
    scales[scale].update(changes)
    return resolve(FILES["experiments"], scales, {}, scale)


@pytest.mark.parametrize("size", [4, 6])
def test_small_softmax_models_are_trained_at_laptop_as_at_paper(size: int) -> None:
    """The laptop scale has rates and lengths of its own for other softmax models, so it says those of `paper` again."""
    laptop, paper = (plan(scale).run(f"unclipped-n{size}-noise0p01/softmax-d7").training for scale in ("laptop", "paper"))
    assert laptop == dataclasses.replace(paper, test_batches=laptop.test_batches, test_every=laptop.test_every)


def test_a_scale_changes_tasks_and_what_belongs_to_them() -> None:
    found = plan("smoke", tasks={"linear-*": {"context_length": 30}})
    expected = Task("linear-long", kind="linear", context_length=30)
    assert found.tasks["linear-long"] == expected == found.run("linear-long/hybrid").task
    assert found.tasks["few-shot"].context_length == 224 and plan("paper").tasks["linear-long"].context_length == 224
    for changes, message in (
        ({"tasks": {"linar": {}}}, "scale smoke: tasks: unknown name 'linar': did you mean 'linear'"),
        ({"tasks": {"linear": {"context_length": 0}}}, "context_length must be at least 1"),
        ({"without": ["linear/lsa-d9"]}, "scale smoke: without: unknown run 'linear/lsa-d9': did you mean"),
    ):
        with pytest.raises(InputError, match=message):
            plan("smoke", **changes)


@pytest.mark.parametrize("scale", ["paper", "laptop", "smoke"])
def test_few_shot_runs_and_their_pairs_have_one_context(scale: str) -> None:
    found = plan(scale)
    for run in ("linear-long/softmax-d7", "linear-long/hybrid"):
        task, pairs = found.run(run).task, found.tasks[found.analysis("tune-prompts", run).pairs]
        assert (pairs.kind, pairs.n_obs, pairs.context_length) == ("few_shot", task.n_obs, task.context_length)
        assert found.analysis("few-shot", run).pairs == pairs.name
        assert found.run(run).model.d_model == 40 and len(found.run(run).model.layers) in (2, 7)


def test_figures_do_without_the_runs_of_a_scale() -> None:
    whole, less = plan("smoke", without=[]), plan("smoke", without=["unclipped-n[246]0-noise0p01/*"])
    big = "unclipped-n60-noise0p01/softmax-d7"
    assert big in whole.looks and big not in less.looks and big in less.runs, "it can be trained all the same"
    assert big in runs("fig5", whole.looks) and big not in runs("fig5", less.looks)
    assert runs("fig5", whole.looks)[big] == "first" and runs("fig5", whole.looks)[big.replace("60", "20")] == "all"
    files = inputs("fig5", [1, 11], whole.looks)
    assert [file for file in files if big in file and file.endswith("linearisation.parquet")] == [
        f"runs/{big}/seed-1/linearisation.parquet"
    ]
    assert not any(big in file for file in inputs("fig5", [1, 11], less.looks))
    sources = {panel.name: len(panel.sources) for panel in figure("fig5", less.looks).panels}
    assert sources["linearisation"] == 8 * 3 and sources["noise_0p01"] == 12


def test_only_optional_runs_are_left_out() -> None:
    """Every scale has the runs that figures cannot do without."""
    for scale in ("paper", "laptop", "smoke"):
        looks = plan(scale).looks
        for name in FIGURES:
            for panel in figure(name, looks).panels:
                assert all(source.run in looks for source in panel.sources), (scale, name, panel.name)


def test_learning_rates_are_the_best_of_the_recorded_search() -> None:
    table = ROOT / "results/recorded/tables/ext/rates.parquet"
    if not table.exists():
        pytest.skip("THE LEARNING RATES OF FIGURE 5 ARE NOT CHECKED: their search is not recorded")
    rows, found = read_table(table, "figure"), plan("paper")
    for series, curve in rows.groupby("series"):
        best = curve.loc[curve["y"].idxmin(), "x"]
        size = int(str(series).rpartition(" ")[2])
        assert found.run(f"unclipped-n{size}-noise0p01/softmax-d7").training.lr == pytest.approx(best)
