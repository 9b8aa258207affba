"""What the JSON beside results says otherwise than it is asked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import make_run

from mesaopt.spec.analysis import Probe
from mesaopt.spec.run import Run
from mesaopt.spec.stages import stage
from mesaopt.spec.told import collected_otherwise, made_otherwise, trained_otherwise

RUN = make_run()
OTHER = make_run(lr=2e-3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "spec.json", RUN.to_dict() | {"seed": 11})
    write(tmp_path / "provenance.json", {"code": "abc"})
    return tmp_path


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


def test_a_training_as_asked(folder: Path) -> None:
    assert trained_otherwise(folder, RUN, 11, "abc") == ""


@pytest.mark.parametrize(("run", "seed"), [(OTHER, 11), (RUN, 1)])
def test_a_training_with_other_settings(folder: Path, run: Run, seed: int) -> None:
    assert "spec.json: other settings" in (trained_otherwise(folder, run, seed, "abc") or "")


def test_a_training_with_other_code(folder: Path) -> None:
    assert "provenance.json: other code" in (trained_otherwise(folder, RUN, 11, "abd") or "")


def test_a_training_that_does_not_say_everything(folder: Path) -> None:
    write(folder / "provenance.json", {})
    assert trained_otherwise(folder, RUN, 11, "abc") is None
    assert trained_otherwise(folder, OTHER, 11, "abc")
    (folder / "spec.json").unlink()
    assert trained_otherwise(folder, OTHER, 11, "abc") is None


def test_settings_of_an_analysis(tmp_path: Path) -> None:
    values = {"settings": Probe(in_context=5), "probes": tmp_path / "probes.parquet", "in_context": None}
    told = Probe(in_context=5).to_dict()
    assert made_otherwise(stage("probe"), values) is None
    write(tmp_path / "probes.json", {"stage": "probe", "settings": {"in_context": told["in_context"]}})  # the rest came later
    assert made_otherwise(stage("probe"), values) is None
    write(tmp_path / "probes.json", {"stage": "probe", "settings": told | {"in_context": 6}})
    assert '"in_context": 6' in (made_otherwise(stage("probe"), values) or "")
    write(tmp_path / "probes.json", {"stage": "probe", "settings": told | {"gone": 6}})
    assert made_otherwise(stage("probe"), values)


def test_runs_and_seeds_of_a_figure(tmp_path: Path) -> None:
    path = tmp_path / "fig.json"
    runs = {RUN.name: RUN}
    assert collected_otherwise(path, runs.__getitem__, [1, 11]) is None
    write(path, {"seeds": [1, 11], "runs": {RUN.name: {"spec": RUN.to_dict()}}})
    assert collected_otherwise(path, runs.__getitem__, [1, 11]) is None
    assert "seeds [1, 11]" in (collected_otherwise(path, runs.__getitem__, [1]) or "")
    longer = {RUN.name: replace(RUN, training=replace(RUN.training, steps=8))}
    assert RUN.name in (collected_otherwise(path, longer.__getitem__, [1, 11]) or "")
