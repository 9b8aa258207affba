"""Sweeps over any setting, in experiments.yaml and of the user's own; settings of analyses."""

import copy
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from mesaopt.errors import InputError
from mesaopt.figures.sweep_table import sweep_table_stage
from mesaopt.spec.analysis import Analysis, Evaluate, Probe, Sensitivity, Tokens
from mesaopt.spec.grid import at, filled, points, spelled
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.diverged import FILE, has_diverged

ROOT = Path(__file__).parents[2]
FILES = {name: read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales")}


def plan(config: dict[str, Any] | None = None, scale: str = "smoke", **added: dict[str, Any]) -> Plan:
    """A plan with entries added to parts of experiments.yaml."""
    experiments = copy.deepcopy(FILES["experiments"])
    for part, entries in added.items():
        experiments.setdefault(part, {}).update(entries)
    return resolve(experiments, FILES["scales"], config or {}, scale)


def test_values_as_parts_of_names() -> None:
    assert [spelled(value) for value in (4, 0.05, 2e-4, 1e-7, [1, 2], "softmax")] == [
        "4",
        "0p05",
        "0p0002",
        "1e-07",
        "1-2",
        "softmax",
    ]
    assert filled("linear-n{n_state}/x-{lr}", {"n_state": 4, "lr": 0.1}) == "linear-n4/x-0p1"


def test_settings_at_a_point() -> None:
    point = {"n_state": 4}
    assert at({"a": {4: 16, 6: 24}, "b": "4*n_state", "c": "x-{n_state}", "d": [1]}, point, "") == {
        "a": 16,
        "b": 16,
        "c": "x-4",
        "d": [1],
    }
    two = {"n_state": 6, "depth": 2}
    assert at({"a": {"n_state": {4: 16, 6: 24}}, "b": {"depth": {1: 5, 2: 7}}}, two, "") == {"a": 24, "b": 7}
    with pytest.raises(InputError, match="steps has no value for n_state 4"):
        at({"steps": {5: 1}}, point, "x")
    assert len(list(points("x", {"a": [1, 2], "b": [3, 4, 5]}))) == 6
    with pytest.raises(InputError, match="x: sweep: a must be a list of values, not 3"):
        list(points("x", {"a": 3}))


def test_a_sweep_over_the_size_of_the_state_and_one_over_the_embedding() -> None:
    tasks = {
        "linear-n{n_state}": {"kind": "linear", "sweep": {"n_state": [4, 6]}, "n_obs": "n_state", "context_length": "4*n_state"}
    }
    model = {"layers": ["softmax"] * 2, "tokens": "raw", "n_heads": 4, "d_head": 5, "init_std": 0.05}
    by_n = {"sweep": {"n_state": [4, 6]}, "task": "linear-n{n_state}", "model": {**model, "d_model": "4*n_state"}}
    by_width = {"sweep": {"d_model": [5, 30]}, "task": "linear", "model": {**model, "d_model": 0, "d_pe": "d_model"}}
    training = {"lr": 1e-3, "steps": {4: 3, 6: 5}}
    runs = {
        "linear-n{n_state}/softmax": {**by_n, "training": training},
        "linear/softmax-e{d_model}": {**by_width, "training": {"lr": 1e-3, "steps": 3}},
    }
    theory = {
        "linear-n{n_state}/gd1": {
            "sweep": {"n_state": [4, 6]},
            "task": "linear-n{n_state}",
            "algorithm": "gd",
            "warmup": 0,
            "lr": 0.1,
            "steps": 2,
        }
    }
    found = plan(scale="paper", tasks=tasks, runs=runs, theory=theory)
    run = found.run("linear-n6/softmax")
    assert (run.task.kind, run.task.n_obs, run.task.context_length, run.model.d_model, run.training.steps) == (
        "linear",
        6,
        24,
        24,
        5,
    )
    assert found.algorithm("linear-n4/gd1").task == found.tasks["linear-n4"]
    assert [found.run(f"linear/softmax-e{d}").model.d_pe for d in (5, 30)] == [5, 30]
    assert found.run("linear/softmax-e30").model.d_model == 30


def test_a_sweep_of_the_users_own() -> None:
    asked = {"run": "linear/lsa-d4", "over": {"lr": [1e-3, 2e-3], "state_noise": [0.01, 0.1], "depth": [2]}, "panel": "mse"}
    found = plan({"sweep": asked, "runs": {"linear/lsa-d4": {"training": {"weight_decay": 0.2}}}})
    assert found.sweep is not None and len(found.sweep.points) == 4 and found.sweep.over == ("lr", "state_noise", "depth")
    name = "linear-state-noise-0p1/lsa-d4-lr-0p002-depth-2-sweep"
    assert found.sweep.points[name] == {"lr": 2e-3, "state_noise": 0.1, "depth": 2}
    run, base = found.run(name), found.run("linear/lsa-d4")
    assert (run.training.lr, run.task.state_noise, len(run.model.layers)) == (2e-3, 0.1, 2)
    assert run.training.weight_decay == base.training.weight_decay == 0.2
    assert run.task.kind == "linear" and found.tasks[run.task.name] == run.task
    wide = {"run": "linear/lsa-d2", "over": {"n_state": [4, 6]}, "with": {"n_obs": "n_state", "d_model": "4*n_state"}}
    assert plan({"sweep": wide}).run("linear-n-state-6/lsa-d2-sweep").model.d_model == 24


def test_points_that_diverged_are_left_out_in_words(tmp_path: Path) -> None:
    sweep = plan({"sweep": {"run": "linear/lsa-d4", "over": {"lr": [1e-3, 0.1], "depth": [2]}}}).sweep
    assert sweep is not None and sweep.without([]) == sweep
    first, second = sweep.points
    less = sweep.without([second])
    assert list(less.points) == [first] and less.diverged == ("lr 0.1 and depth 2",)
    nothing = sweep.without(list(sweep.points))
    with pytest.raises(InputError, match=r"every point diverged \(lr 0.001 and depth 2; lr 0.1 and depth 2\); nothing is left"):
        sweep_table_stage(nothing, tmp_path, [1], tmp_path / "sweep.parquet", tmp_path / "sweep.json")


def test_a_record_of_divergence_is_that_of_one_training(tmp_path: Path) -> None:
    own = {"spec": "{}", "code": "a"}
    assert not has_diverged(tmp_path, own)
    for content, found in (
        (json.dumps({"identity": own, "message": "x"}), True),
        (json.dumps({"identity": own | {"code": "b"}, "message": "x"}), False),
        ('{"identity": null}', False),
        ("[]", False),
        ("{", False),
    ):
        (tmp_path / FILE).write_text(content)
        assert has_diverged(tmp_path, own) is found


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"run": "linear/lsa-d44", "over": {"lr": [1]}}, "sweep: run: unknown run 'linear/lsa-d44': did you mean"),
        ({"run": "linear/lsa-d4", "over": {"lrr": [1]}}, "sweep: unknown setting 'lrr': did you mean 'lr'?"),
        ({"run": "linear/lsa-d4", "over": {"lr": [1]}, "panel": "mze"}, "sweep: panel: unknown panel 'mze': did you mean 'mse'?"),
        ({"run": "linear/lsa-d4", "over": {"lr": 1}}, "sweep: sweep: lr must be a list of values, not 1"),
        (
            {"run": "text/two-softmax", "over": {"lr": [1]}},
            "sweep: run: text/two-softmax is a run on text; only runs on systems can",
        ),
        ({"run": "linear/lsa-d4", "over": {"depth": ["x"]}}, "sweep: depth: 'x' layers of linear: one kind of layer, a number"),
    ],
)
def test_wrong_sweeps(asked: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as error:
        plan({"sweep": asked})
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("over", "follow", "line"),
    [
        ({"n_state": [4, 20]}, {}, "n_obs 10 exceeds n_state 4; n_obs must change with it: with: {n_obs: {4: 4, 20: 10}}"),
        (
            {"n_state": [4], "lr": [1e-3]},
            {},
            "n_obs 10 exceeds n_state 4; n_obs must change with it: with: {n_obs: {n_state: {4: 4}}}",
        ),
        (
            {"n_state": [4]},
            {"n_obs": {4: 4}},
            "constructed tokens have 4 n_obs = 16 channels, d_model is 40; what must change with a swept setting stands",
        ),
        ({"n_heads": [0]}, {}, "linear/lsa-d4-n-heads-0-sweep: n_heads must be at least 1, not 0"),
        ({"context_length": [0]}, {}, "context_length must be at least 1, not 0"),
    ],
)
def test_a_point_that_cannot_be_says_what_to_write(over: dict[str, Any], follow: dict[str, Any], line: str) -> None:
    asked = {"run": "linear/lsa-d4", "over": over, "with": follow}
    with pytest.raises(InputError, match=r"^sweep: [^\n]*$") as error:
        plan({"sweep": asked})
    assert line in str(error.value)
    assert str(error.value).endswith(line) or "stands beside it, such as with:" in str(error.value)


def test_what_the_hint_says_can_be_written() -> None:
    """Beside the width that constructed tokens then have."""
    for over, by_size in (
        ({"n_state": [4, 20]}, {4: 4, 20: 10}),
        ({"n_state": [4, 20], "lr": [1e-3]}, {"n_state": {4: 4, 20: 10}}),
    ):
        follow = {"n_obs": by_size, "d_model": {4: 16, 20: 40} if len(over) == 1 else {"n_state": {4: 16, 20: 40}}}
        found = plan({"sweep": {"run": "linear/lsa-d4", "over": over, "with": follow}})
        assert found.sweep is not None and len(found.sweep.points) == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Tokens(layer=3), "token probes of layer 3: the model has 2"),
        (Tokens(position=51), "token probes at position 51: the context length is 50"),
        (Tokens(position=5), "token probes of 8 elements: there are 5 up to that position"),
        (Sensitivity(tokens=51), "sensitivity to the last 51 elements: the context length is 50"),
        (Tokens(layer=2, position=50, tokens=50), ""),
        (Sensitivity(tokens=50), ""),
    ],
)
def test_settings_of_analyses_fit_the_run(settings: Analysis, expected: str) -> None:
    run = plan().run("linear/full-mesa")
    with pytest.raises(InputError, match=expected) if expected else nullcontext():
        settings.check(run)


def test_analyses_have_settings_that_scales_and_users_override() -> None:
    analyses = {"probe": {"*": {"in_sample": 200}, "contracting/*": {"preconditioner": "linear/proposition2"}}}
    found = plan(
        {"analyses": {"probe": {"linear/lsa-d6": {"in_context": 5}}, "evaluate": {"*": {"test_batches": 2}}}}, analyses=analyses
    )
    assert found.analysis("probe", "linear/lsa-d6") == Probe(in_sample=200, in_context=5)
    of_scale = FILES["scales"]["smoke"]["analyses"]["probe"]["*"]
    assert found.analysis("probe", "contracting/lsa-d1") == Probe(in_sample=200, preconditioner="linear/proposition2", **of_scale)
    assert found.analysis("evaluate", "linear/lsa-d1") == Evaluate(test_batches=2)
    assert plan(scale="paper").analysis("probe", "linear/lsa-d6") == Probe() and Probe().to_json() == "{}"
    with pytest.raises(InputError, match="config: analyses: unknown analysis 'prob': did you mean 'probe'"):
        plan({"analyses": {"prob": {}}})


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"probe": {"*": {"in_sampel": 3}}}, "config: analyses: probe: *: unknown key 'in_sampel': did you mean 'in_sample'?"),
        (
            {"probe": {"linear/lsa-d66": {"in_context": 3}}},
            "config: analyses: probe: unknown run 'linear/lsa-d66': did you mean 'linear/lsa-d6'?",
        ),
        ({"probe": {"liner/*": {}}}, "config: analyses: probe: unknown run 'liner/*': did you mean 'linear/"),
        # only evaluations are of hand-written algorithms, too
        ({"probe": {"linear/gd1": {"in_context": 3}}}, "config: analyses: probe: unknown run 'linear/gd1': "),
        (
            {"evaluate": {"linear/gdd1": {"sequences": 3}}},
            "config: analyses: evaluate: unknown run or theory entry 'linear/gdd1': did you mean 'linear/gd1'?",
        ),
    ],
)
def test_settings_of_analyses_that_would_change_nothing_are_refused(asked: dict[str, Any], line: str) -> None:
    """When settings are resolved: not when the analysis is planned, days later."""
    with pytest.raises(InputError) as error:
        plan({"analyses": asked})
    assert str(error.value).startswith(line) and "\n" not in str(error.value)
    good = {"evaluate": {"linear/gd1": {"sequences": 3}}, "probe": {"linear/lsa-d6": {"in_context": 3}}}
    assert plan({"analyses": good}).analyses["evaluate"]["linear/gd1"] == {"sequences": 3}


@pytest.mark.parametrize("source", ["experiments.yaml", "scale smoke"])
def test_the_same_in_the_files_that_ship(source: str) -> None:
    experiments, scales = (copy.deepcopy(FILES[name]) for name in ("experiments", "scales"))
    layer = experiments if source == "experiments.yaml" else scales["smoke"]
    layer["analyses"] = {"probe": {"nowhere/*": {}}}
    with pytest.raises(InputError, match=f"^{source}: analyses: probe: unknown run 'nowhere/[*]': one of .* and [0-9]+ more"):
        resolve(experiments, scales, {}, "smoke")
