"""A run is what its settings say: a new setting with a default makes no other run of it, and no recorded table useless."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mesaopt.recording.union import difference
from mesaopt.recording.union_facts import Made
from mesaopt.spec import run as spec
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Attention, Distil, Evaluate, Labels, Linearise, Probe, Prompts, Samples, Sensitivity, Tokens
from mesaopt.spec.arguments import load
from mesaopt.spec.language import LanguageMeasures, LanguageModel, LanguageRun, LanguageTraining
from mesaopt.spec.plan import resolve
from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.spec.stages import STAGES
from mesaopt.spec.text import Text
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.tables import read_table

ROOT = Path(__file__).parents[2]
RECORDED = sorted((ROOT / "results/recorded/records").rglob("*.json"))


def table_of(record: Path) -> Path:
    results = ROOT / "results/recorded"
    return (results / "tables" / record.relative_to(results / "records")).with_suffix(".parquet")


#: those that all seeds share, of every analysis that has them
BATCHES = {"test_batches": 5, "test_batch": 256}
#: every default, once and for all: another one would silently make another run of everything that left it out
DEFAULTS: dict[type, dict[str, Any]] = {
    Task: {"n_state": 10, "n_obs": 10, "context_length": 50, "kind": "", "state_noise": None, "obs_noise": None, "teacher": 0},
    Model: {"clip": None, "d_pe": 0, "d_mlp": 0, "normalise": "none"},
    Training: {
        "batch": 256,
        "weight_decay": 0.1,
        "warmup": 0,
        "horizon": None,
        "final_lr": None,
        "test_every": 100,
        "test_batches": 10,
        "test_batch": 256,
        "stream": "train",
        "snapshot_every": 0,
        "snapshot_until": 0,
        "objective": "squared_error",
        "generator": "pcg64",
    },
    Run: {},
    Theory: {
        "steps": 0,
        "lr": 0.0,
        "batch": 256,
        "n_steps": 0,
        "inverse_lam": 0.001,
        "form": "textbook",
        "lag": 0,
        "weight_decay": 0.05,
        "warmup": 500,
        "horizon": None,
        "final_lr": 1e-5,
        "input": "observations",
        "k": 0,
        "scalars": "",
        "fixed_inverse_lam": None,
        "search_values": 0,
        "search_low": 0.001,
        "search_high": 10.0,
        "search_sequences": 512,
    },
    Evaluate: {**BATCHES, "sequences": 0},
    Samples: {"in_sample": 256, **BATCHES},
    Probe: {
        "preconditioner": "proposition2",
        "published_preconditioner": "proposition2-published",
        "in_sample": 256,
        "in_context": 64,
        "in_context_positions": 10,
        **BATCHES,
    },
    Tokens: {"layer": 1, "position": None, "tokens": 8, "in_sample": 256, **BATCHES},
    Attention: {"sequences": 2048, **BATCHES},
    Sensitivity: {"until": 2900, "tokens": 6, "sequences": 64, "test_batches": 1},
    Text: {
        "context_length": 1024,
        "tokeniser": "bytes",
        "vocabulary": 0,
        "validation": 0.05,
        "megabytes": 0.0,
        "path": "",
        "column": "text",
    },
    LanguageModel: {
        "d_mlp": 0,
        "nu": 3,
        "key_shift": "none",
        "normalise": "after",
        "guard": 1e-6,
        "positions": "sinusoidal",
        "embedding_scale": 1.0,
        "position_scale": 1.0,
        "output": "untied",
        "activation": "relu",
        "biases": "all",
        "dropout": 0.1,
        "init_std": 0.02,
    },
    LanguageTraining: {
        "batch": 256,
        "micro_batch": 0,
        "lr": 3e-4,
        "first_lr": 1e-6,
        "final_lr": 2e-4,
        "warmup": 2_097_152_000,
        "horizon": 300_000_000_000,
        "beta_1": 0.9,
        "beta_2": 0.95,
        "weight_decay": 0.1,
        "decay": "matrices",
        "clip": 1.0,
        "test_every": 100,
        "test_sequences": 256,
        "objective": "cross_entropy",
    },
    LanguageRun: {},
    LanguageMeasures: {"sequences": 1024, "repeated": 256, "maps": 256, "map_length": 64},
    Prompts: {
        "pairs": "few-shot",
        "separators": 1,
        "prefix": 20,
        "lr": 1e-3,
        "steps": 5000,
        "separator_batch": 64,
        "prefix_batch": 128,
    },
    Labels: {
        "pairs": "few-shot",
        "first_pairs": 20,
        "first_tokens": None,
        "inverse_lam": 0.001,
        "search_values": 20,
        "search_low": 1e-3,
        "search_high": 10.0,
    },
    Distil: {
        "starts": ("softmax", "plain"),
        "steps": 15000,
        "batch": 64,
        "lr": 1e-3,
        "weight_decay": 0.05,
        "init_std": 0.05,
        "recorded": 512,
    },
    Linearise: {"test_batches": 10, "test_batch": 64},
}


def recorded_specs() -> list[tuple[type, str, dict[str, Any], str]]:
    """(kind, name, settings, scale) of every run and algorithm behind every recorded table."""
    found = []
    for path in RECORDED:
        facts = json.loads(path.read_text())
        for name, entry in facts["runs"].items():
            kind = LanguageRun if name.startswith("text/") else Run
            found.append((kind, name, entry["spec"], facts["scale"]))
        for name, entry in facts.get("algorithms", {}).items():
            found.append((Theory, name, entry["spec"], facts["scale"]))
    return found


def plan_of(scale: str = "paper") -> Any:
    experiments, scales = (read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales"))
    return resolve(experiments, scales, {}, scale)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_no_default_ever_changes(kind: type) -> None:
    found = {field.name: field.default for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    assert {name: found.get(name, "gone") for name in DEFAULTS[kind]} == DEFAULTS[kind]
    assert found.keys() == DEFAULTS[kind].keys(), "a new setting: write its default here, where it stays"


def test_no_settings_are_without_their_defaults_here() -> None:
    assert {load(entry.settings) for entry in STAGES if entry.settings} <= DEFAULTS.keys()


def test_the_identity_says_what_differs_from_the_defaults() -> None:
    task = Task("linear", n_state=10, context_length=20)
    assert json.loads(task.to_json()) == {"name": "linear", "context_length": 20}
    assert Task.from_json(task.to_json()) == task == Task.from_dict(task.to_dict())
    named = Task("linear-n20", n_state=20, n_obs=20, kind="linear")
    assert json.loads(named.to_json()) == {"name": "linear-n20", "kind": "linear", "n_state": 20, "n_obs": 20}


def test_every_recorded_spec_is_that_of_today() -> None:
    specs = recorded_specs()
    plans = {scale: plan_of(scale) for scale in {scale for *_, scale in specs}}
    assert len(specs) > 40
    for kind, name, settings, scale in specs:
        of = plans[scale].algorithm(name) if kind is Theory else plans[scale].any_run(name)
        read = kind.from_dict(settings)  # type: ignore[attr-defined]
        assert read == of and read.to_json() == of.to_json(), name


def test_a_new_setting_changes_no_identity_and_joins_recorded_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field is added to tasks and trainings, as the next task or figure will; all that is recorded still matches."""
    before = {name: run.to_json() for name, run in plan_of().runs.items()}
    grown = {
        name: dataclasses.make_dataclass(name, [(f"new_{name.lower()}", float, 0.5)], bases=(old,), frozen=True)
        for name, old in (("Task", Task), ("Training", Training))
    }
    task, training = grown["Task"], grown["Training"]
    fields: list[Any] = [("name", str), ("task", task), ("model", Model), ("training", training)]
    run = dataclasses.make_dataclass("Run", fields, bases=(Run,), frozen=True)
    fields = [("task", task), ("new_theory", str, "none")]
    theory = dataclasses.make_dataclass("Theory", fields, bases=(Theory,), frozen=True)
    for name, kind in {**grown, "Run": run, "Theory": theory}.items():
        for module in ("mesaopt.spec.run", "mesaopt.spec.plan", "mesaopt.recording.union"):
            monkeypatch.setattr(f"{module}.{name}", kind, raising=False)
    plan = plan_of()
    assert plan.run("linear/lsa-d6").training.new_training == 0.5
    assert {name: one.to_json() for name, one in plan.runs.items()} == before
    for path in RECORDED:
        old = Made(read_table(table_of(path), "figure"), json.loads(path.read_text()))
        facts = json.loads(path.read_text())
        for name, entry in ((name, entry) for name, entry in facts["runs"].items() if name in plan.runs):
            entry["spec"] = json.loads(json.dumps(plan.run(name).to_dict()))
            assert entry["spec"] != old.facts["runs"][name]["spec"]
        for name, entry in facts.get("algorithms", {}).items():
            entry["spec"] = json.loads(json.dumps(plan.algorithm(name).to_dict()))
        assert difference(old, Made(old.table, facts)) is None, path.name


def test_a_setting_that_differs_still_makes_another_run() -> None:
    run = plan_of().run("linear/lsa-d1")
    other = dataclasses.replace(run, task=dataclasses.replace(run.task, state_noise=0.02))
    assert other.to_json() != run.to_json() and spec.Run.from_json(other.to_json()) == other
