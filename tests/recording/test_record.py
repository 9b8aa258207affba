"""Recording: tables of finished figures become the recorded ones, from a clean commit only."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from own_git import commit_all, git
from workflow_folder import ROOT, planned, snakemake

from mesaopt.__main__ import main
from mesaopt.errors import InputError
from mesaopt.recording.record import record
from mesaopt.recording.weights import copies
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.tables import write_table

SMOKE, RECORDED = Path("results/smoke"), Path("results/recorded")


def test_tables_and_provenance_are_recorded(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(SMOKE, RECORDED)
    for name in ("tables/fig13.parquet", "records/fig13.json"):
        assert (RECORDED / name).read_bytes() == (SMOKE / name).read_bytes()
    facts = json.loads((RECORDED / "records/fig13.json").read_text())
    assert facts["commits"] == [git(clone, "rev-parse", "HEAD").strip()]
    assert facts["runs"]["linear/lsa-d1-weights"]["seeds"] == [1]
    seconds = json.loads((SMOKE / "runs/linear/lsa-d1-weights/seed-1/provenance.json").read_text())["wall_seconds"]
    assert facts["training_hours"] == pytest.approx(seconds / 3600, abs=0.01)
    lines = capsys.readouterr().out.splitlines()
    assert "fig13: recorded" in lines
    assert "fig3: not finished in results/smoke, not recorded" in lines


def test_recorded_figures_are_drawn_without_any_other_job(clone: Path) -> None:
    record(SMOKE, RECORDED)
    shutil.rmtree(SMOKE)
    snakemake(clone, "figures/fig13.png", "--config", "scale=recorded")
    assert (clone / "figures/fig13.png").read_bytes().startswith(b"\x89PNG")
    assert not SMOKE.exists()


def test_the_comparison_with_published_curves_is_recorded(clone: Path) -> None:
    names = {"figure": "fig13", "panel": "mse_1", "series": "LSA-1", "published": "a.csv"}
    counts = {"seeds": 5, "points": 50, "within": 1.0, "largest_gap": 0.01, "at": 7.0, "deviation": 0.02, "published_error": 0.01}
    write_table(pd.DataFrame([names | counts]), "curves", SMOKE / "curves.parquet")
    record(SMOKE, RECORDED)
    assert (RECORDED / "curves.parquet").read_bytes() == (SMOKE / "curves.parquet").read_bytes()


def test_a_table_at_paper_settings_is_not_replaced_by_one_of_another_scale(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(SMOKE, RECORDED)
    recorded = RECORDED / "records/fig13.json"
    recorded.write_text(json.dumps(json.loads(recorded.read_text()) | {"scale": "paper"}))
    commit_all(clone, "recorded")
    table = (RECORDED / "tables/fig13.parquet").read_bytes()
    record(SMOKE, RECORDED)
    assert "fig13: stays as recorded, at paper settings; the new one is of scale smoke" in capsys.readouterr().out.splitlines()
    assert json.loads(recorded.read_text())["scale"] == "paper" and (RECORDED / "tables/fig13.parquet").read_bytes() == table
    record(SMOKE, RECORDED, replace=["fig13"])
    assert json.loads(recorded.read_text())["scale"] == "smoke"


def test_a_changed_work_tree_is_refused(clone: Path) -> None:
    (clone / "Snakefile").write_text((clone / "Snakefile").read_text() + "\n# changed\n")
    with pytest.raises(InputError, match=r"the work tree has changes \(M Snakefile"):
        record(SMOKE, RECORDED)
    assert not RECORDED.exists()


@pytest.mark.parametrize("facts", [{"dirty": True}, {"dirty": None, "commits": [], "git": ["fatal: detected dubious"]}])
def test_results_of_changed_or_unknown_code_are_refused(clone: Path, facts: dict[str, Any]) -> None:
    path = SMOKE / "records/fig13.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    said = "; git said: fatal: detected dubious" if "git" in facts else ""
    words = rf"fig13: some of its results come from changed or unknown code \({path}{said}\)"
    with pytest.raises(InputError, match=words):
        record(SMOKE, RECORDED)
    assert not RECORDED.exists()


def test_a_refusal_of_git_is_said_in_its_own_words(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(InputError, match=r"recording needs a git work tree, .*; git says: fatal: detected dubious ownership"):
        record(SMOKE, RECORDED)
    assert not RECORDED.exists()


def test_another_working_folder_and_a_hook_make_no_difference(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    record(clone / SMOKE, clone / RECORDED)
    assert (clone / RECORDED / "tables/fig13.parquet").exists()


def test_a_damaged_table_is_refused(clone: Path) -> None:
    path = SMOKE / "tables/fig13.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"fig13.parquet: damaged, not what was written"):
        record(SMOKE, RECORDED)
    assert not RECORDED.exists()


def test_nothing_finished_is_refused(clone: Path) -> None:
    with pytest.raises(InputError, match="holds no finished figure"):
        record(Path("results/laptop"), RECORDED)
    assert not RECORDED.exists()


FOLDER = Path("linear/lsa-d1-weights/seed-1")
TRAINED = ("weights.safetensors", "spec.json", "provenance.json", "history.parquet")


def test_weights_are_recorded_and_analysed_without_a_training(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(SMOKE, RECORDED)
    assert "fig13: weights recorded of linear/lsa-d1-weights (1)" in capsys.readouterr().out.splitlines()
    for name in TRAINED:
        assert (RECORDED / "weights" / FOLDER / name).read_bytes() == (SMOKE / "runs" / FOLDER / name).read_bytes()
    assert not (RECORDED / "weights" / FOLDER / "snapshots.safetensors").exists()
    before = {path.name: path.read_bytes() for path in (SMOKE / "runs" / FOLDER).glob("*.parquet")}
    shutil.rmtree("results/smoke")
    settings_of_smoke_as_paper(clone)
    snakemake(clone, "analyses", "--config", "scale=recorded")
    made = {path.name: path.read_bytes() for path in (RECORDED / "runs" / FOLDER).glob("*.parquet")}
    assert made and made.items() <= before.items()
    assert not Path("results/paper").exists() and not git(clone, "status", "--porcelain", "results/recorded/runs")
    assert planned(clone, "analyses", "--config", "scale=recorded") == {}


def test_weights_of_language_models_are_not_recorded(tmp_path: Path) -> None:
    facts = {"commits": ["a"], "runs": {"text/a": {"seeds": [1, 11], "spec": {"task": {"corpora": ["docstrings"]}}}}}
    found = copies("fig26", facts, tmp_path, tmp_path, 1.0)
    assert not found.files and found.lines == ["fig26: weights of language models are not recorded: text/a"]


def settings_of_smoke_as_paper(clone: Path) -> None:
    scales = read_yaml(clone / "config/scales.yaml")
    (clone / "config/scales.yaml").write_text(yaml.safe_dump(scales | {"paper": scales["smoke"]}))


def test_weights_that_are_not_there_or_of_other_settings_are_one_line(clone: Path) -> None:
    target = ("results/recorded/runs/linear/lsa-d1-weights/seed-1/structure.parquet", "--config", "scale=recorded")
    words = "linear/lsa-d1-weights seed 1: no results/recorded/weights/linear/lsa-d1-weights/seed-1/weights.safetensors"
    assert words in snakemake(clone, *target, succeed=False)
    record(SMOKE, RECORDED)
    assert "spec.json says other settings than those of scale paper" in snakemake(clone, *target, succeed=False)


def test_a_bound_on_weights_is_said(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(SMOKE, RECORDED, weights_up_to=0.001)
    assert not (RECORDED / "weights").exists() and (RECORDED / "tables/fig13.parquet").exists()
    line = next(line for line in capsys.readouterr().out.splitlines() if "weights" in line)
    assert line.startswith("fig13: weights over 0.001 MB a seed are not recorded, of linear/lsa-d1-weights (1); they are by: ")
    commit_all(clone, "recorded")
    assert main(["record", *line.partition("mesaopt record ")[2].split()]) == 0
    assert (RECORDED / "weights" / FOLDER / "weights.safetensors").exists()


def test_weights_that_the_table_was_not_made_from_are_not_recorded(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = SMOKE / "runs" / FOLDER / "provenance.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"wall_seconds": facts["wall_seconds"] + 1}))
    record(SMOKE, RECORDED)
    words = (
        "fig13: no weights of linear/lsa-d1-weights (1): the trainings that its values come from are not in results/smoke/runs"
    )
    assert words in capsys.readouterr().out.splitlines()
    assert not (RECORDED / "weights").exists()


def test_damaged_weights_are_refused_before_anything_is_written(clone: Path) -> None:
    path = SMOKE / "runs" / FOLDER / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"weights\.safetensors: damaged"):
        record(SMOKE, RECORDED)
    assert not RECORDED.exists()


def test_weights_go_with_the_figure_that_they_were_behind(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(SMOKE, RECORDED)
    facts, there = json.loads((SMOKE / "records/fig13.json").read_text()), SMOKE / "runs" / FOLDER
    facts["runs"]["linear/lsa-d1-weights"]["hours"] = {"1": 5.0}
    (SMOKE / "records/fig13.json").write_text(json.dumps(facts))
    shutil.rmtree(there)
    commit_all(clone, "recorded")
    capsys.readouterr()
    record(SMOKE, RECORDED)
    said = capsys.readouterr().out
    assert "fig13: no weights of linear/lsa-d1-weights (1)" in said
    assert f"{RECORDED / 'weights' / FOLDER}: behind no recorded figure any more, removed" in said
    assert not (RECORDED / "weights" / FOLDER).exists()


def test_analyses_of_recorded_weights_are_planned_without_training_or_learning() -> None:
    jobs = planned(ROOT, "analyses", "--config", "scale=recorded")
    assert {"token-probes", "sequences", "analyses"} <= jobs.keys()
    assert not {"train", "learn"} & {name.partition("_")[0] for name in jobs}
