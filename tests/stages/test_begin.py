"""A run that is the beginning of a longer training is bit for bit what a training of its own would leave."""

import dataclasses
from pathlib import Path

import pytest
from tiny_runs import make_run

from mesaopt.errors import InputError
from mesaopt.spec.beginnings import inherit, is_beginning
from mesaopt.spec.run import Run
from mesaopt.stages.begin import begin_stage
from mesaopt.training.loop import Options, train

SCHEDULE = {"warmup": 2, "horizon": 20, "final_lr": 1e-4, "test_every": 3}
FILES = ("spec.json", "history.parquet", "snapshots.safetensors", "weights.safetensors")


def named(run: Run, name: str) -> Run:
    return dataclasses.replace(run, name=name)


def trained(run: Run, folder: Path) -> Path:
    train(run, {1: folder}, Options(folder / "checkpoints", progress="none"))
    return folder


@pytest.mark.parametrize("kept", [{}, {"snapshot_every": 2}])
def test_taken_and_trained_are_the_same(tmp_path: Path, kept: dict[str, int]):
    longer = make_run(steps=12, snapshot_every=2, **SCHEDULE)
    run = named(make_run(steps=6, **SCHEDULE, **kept), "tiny/short")
    own, taken = trained(run, tmp_path / "own"), tmp_path / "taken"
    taken.mkdir()
    begin_stage(run, trained(longer, tmp_path / "longer"), taken / "weights.safetensors")
    assert [(own / name).read_bytes() for name in FILES] == [(taken / name).read_bytes() for name in FILES]
    assert f'"beginning_of": "{longer.name}"' in (taken / "provenance.json").read_text()


def test_another_training_is_refused(tmp_path: Path):
    longer = trained(make_run(steps=12, snapshot_every=2, **SCHEDULE), tmp_path / "longer")
    with pytest.raises(InputError, match="is not the beginning of tiny/linear"):
        begin_stage(make_run(steps=6, **SCHEDULE, batch=9), longer, tmp_path / "weights.safetensors")
    assert not (tmp_path / "weights.safetensors").exists()


LONGER = {"steps": 12, "snapshot_every": 2, **SCHEDULE}


@pytest.mark.parametrize(
    ("changes", "whether"),
    [
        ({"steps": 6}, True),
        ({"steps": 12}, True),
        ({"steps": 14}, False),
        ({"steps": 3}, False),  # no snapshot there
        ({"steps": 4}, False),  # no test loss there
        ({"steps": 6, "snapshot_every": 3}, False),
        ({"steps": 6, "snapshot_every": 2, "snapshot_until": 4}, True),
        ({"steps": 6, "lr": 2e-3}, False),
        ({"steps": 6, "horizon": 21}, False),
        ({"steps": 6, "stream": "second"}, False),
    ],
)
def test_what_is_a_beginning(changes: dict[str, float], whether: bool):
    shorter = make_run(**{**LONGER, "snapshot_every": 0, **changes})
    assert is_beginning(shorter, make_run(**LONGER)) is whether


def test_a_cosine_without_a_horizon_ends_with_the_steps():
    settings = {**LONGER, "horizon": None}
    assert not is_beginning(make_run(**{**settings, "steps": 6, "snapshot_every": 0}), make_run(**settings))


def test_entries_inherit_what_they_do_not_say():
    base = {"task": "linear", "model": {"layers": ["linear"]}, "training": {"lr": 1.0, "steps": 9}, "panels": ["fig3/mse"]}
    entries = {"linear/a": base, "linear/b": {"beginning_of": "linear/a", "label": "B", "training": {"steps": 3}}}
    assert inherit(entries) == {"linear/b": "linear/a"}
    expected = {"task": "linear", "model": {"layers": ["linear"]}, "training": {"lr": 1.0, "steps": 3}, "label": "B"}
    assert entries["linear/b"] == expected
    assert entries["linear/a"]["training"] == {"lr": 1.0, "steps": 9}


@pytest.mark.parametrize(("of", "message"), [("linear/aa", "unknown run"), ("linear/b", "is itself the beginning of")])
def test_a_beginning_of_what_cannot_be(of: str, message: str):
    entries = {
        "linear/a": {"training": {}},
        "linear/b": {"beginning_of": "linear/a"},
        "linear/c": {"beginning_of": of},
    }
    with pytest.raises(InputError, match=message):
        inherit(entries)
