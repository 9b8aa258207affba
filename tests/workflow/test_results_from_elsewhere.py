"""Results that came from elsewhere, without Snakemake's memory: what fits is used, what is not what is asked is made again."""

import json
import os
import shutil
from pathlib import Path
from random import Random

import pytest
from workflow_folder import copy_workflow, planned, snakemake

from mesaopt.store.tables import read_table, write_table

SMOKE = ("--config", "scale=smoke")
FIGURES = ("figures/fig1.pdf", "figures/fig13.pdf")
OTHER_RATE = "runs={linear/lsa-d6: {training: {lr: 2e-3}}}"
RETRAINED = {"train": 2, "evaluate_extract_probe": 2, "collect": 1, "draw_fig1": 1, "publish": 1}
RUN = "results/smoke/runs/linear/lsa-d6"
UNKNOWN = "nothing says what"


@pytest.fixture(scope="module")
def received(smoke_figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with copied results, dated in no order, that Snakemake knows nothing of; to be left as it is."""
    return receive(smoke_figures, tmp_path_factory.mktemp("received") / "clone")


@pytest.fixture
def clone(smoke_figures: Path, tmp_path: Path) -> Path:
    return receive(smoke_figures, tmp_path / "clone")


def receive(built: Path, folder: Path, *parts: str) -> Path:
    copy_workflow(folder)
    for part in parts or ("results", "figures"):
        shutil.copytree(built / part, folder / part, dirs_exist_ok=True)
    paths = sorted(path for part in ("results", "figures") for path in (folder / part).rglob("*") if path.is_file())
    Random(1).shuffle(paths)
    for age, path in enumerate(paths):
        os.utime(path, (1.7e9 - age, 1.7e9 - age))
    return folder


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Date and size of every file outside of Snakemake's own folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not {".snakemake", "__pycache__"} & set(path.parts)]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def forget_records(folder: Path) -> None:
    """As if an older version had made everything."""
    for path in folder.rglob(".*.made.json"):
        path.unlink()
    shutil.rmtree(folder / "results/smoke/.digests/tables", ignore_errors=True)


def add_code(folder: Path, module: str) -> None:
    path = folder / "src/mesaopt" / module
    path.write_text(path.read_text() + "\nA_NEW_CONSTANT = 1\n")


def test_what_fits_is_used_whatever_the_pack(received: Path) -> None:
    output = snakemake(received, "-n", *FIGURES, *SMOKE, "pack=2")
    assert "Nothing to be done" in output
    assert UNKNOWN not in output


def test_a_plan_changes_nothing_and_other_settings_are_made(received: Path) -> None:
    before = state(received)
    assert planned(received, *FIGURES, *SMOKE, OTHER_RATE) == RETRAINED
    assert state(received) == before


def test_other_settings_of_an_analysis(received: Path, smoke_figures: Path) -> None:
    """Whether Snakemake made the tables itself or not."""
    jobs = {"evaluate_extract_probe": 2, "collect": 1, "draw_fig1": 1, "publish": 1}
    for folder in (received, smoke_figures):
        assert planned(folder, *FIGURES, *SMOKE, "analyses={probe: {'*': {in_context: 5}}}") == jobs


def test_other_settings_of_a_learned_algorithm(received: Path) -> None:
    """And of what reads its parameters; of the figures asked for, one does."""
    jobs = {"learn": 1, "evaluate_extract_probe": 2, "collect": 1, "draw_fig1": 1, "publish": 1}
    assert planned(received, *FIGURES, *SMOKE, "theory={linear/proposition2: {steps: 7}}") == jobs


def test_another_seed_is_not_one_that_is_there(clone: Path) -> None:
    shutil.copytree(clone / RUN / "seed-1", clone / RUN / "seed-111")
    jobs = planned(clone, "figures/fig1.pdf", *SMOKE, "seeds=[1,111]")
    assert (jobs["train"], jobs["evaluate_extract_probe"], jobs["sequences"]) == (1, 1, 1)


def test_other_code(clone: Path) -> None:
    add_code(clone, "stages/probe.py")
    assert planned(clone, *FIGURES, *SMOKE) == {name: RETRAINED[name] for name in RETRAINED if name != "train"}
    add_code(clone, "models/layers/linear.py")
    jobs = planned(clone, *FIGURES, *SMOKE)
    assert jobs["train"] == 4 and "sequences" not in jobs and "learn" not in jobs


def test_another_table_is_noticed_however_old(clone: Path) -> None:
    """By those that read it; written by a stage by hand, say, with a digest of its own."""
    table = clone / "results/smoke/data/linear/seed-1.parquet"
    write_table(read_table(table, "sequences").iloc[:-1], "sequences", table)
    os.utime(table, (1e9, 1e9))
    assert planned(clone, "figures/fig1.pdf", *SMOKE)["evaluate_extract_probe"] == 1


def test_tables_alone_are_judged_by_all_that_is_behind_them(smoke_figures: Path, tmp_path: Path) -> None:
    folder = receive(smoke_figures, tmp_path / "clone", "results/smoke/tables", "results/smoke/records", "results/smoke/.digests")
    assert planned(folder, *FIGURES, *SMOKE) == {"draw_fig1": 1, "draw_fig13": 1, "publish": 2}
    jobs = planned(folder, *FIGURES, *SMOKE, OTHER_RATE)
    assert (jobs["train"], jobs["collect"], jobs["draw_fig13"]) == (2, 1, 1)


def test_results_of_an_older_version_say_enough_of_trainings(clone: Path) -> None:
    forget_records(clone)
    for path in (clone / "results").rglob("*"):
        os.utime(path, (1e9, 1e9))  # else what is older than its inputs would be made again
    output = snakemake(clone, "-n", *FIGURES, *SMOKE)
    assert "Nothing to be done" in output
    assert output.count(UNKNOWN) == 1
    assert planned(clone, *FIGURES, *SMOKE, OTHER_RATE) == RETRAINED
    assert planned(clone, *FIGURES, *SMOKE, "theory={linear/proposition2: {steps: 7}}")["learn"] == 1
    jobs = planned(clone, *FIGURES, *SMOKE, "analyses={probe: {'*': {in_context: 5}}}")
    assert jobs["evaluate_extract_probe"] == 2 and "train" not in jobs
    add_code(clone, "models/layers/linear.py")
    assert planned(clone, *FIGURES, *SMOKE)["train"] == 4


def test_other_hands_overwrite_what_snakemake_remembers(smoke_figures: Path, tmp_path: Path) -> None:
    """Files without their records, copied over ones that fitted."""
    clone = shutil.copytree(smoke_figures, tmp_path / "clone", symlinks=True)
    spec = clone / RUN / "seed-1/spec.json"
    said = json.loads(spec.read_text())
    said["training"]["lr"] = 0.5
    spec.write_text(json.dumps(said))
    os.utime(spec, (1e9, 1e9))
    (clone / "results/smoke/figures/fig13.pdf").write_bytes(b"another picture")
    jobs = planned(clone, *FIGURES, *SMOKE)
    assert (jobs["train"], jobs["evaluate_extract_probe"], jobs["draw_fig13"], jobs["publish"]) == (1, 1, 1, 2)


def test_a_job_on_a_cluster_does_what_it_was_told_and_no_more(clone: Path) -> None:
    """As Snakemake calls itself there: that the training is another one's business, and so are records."""
    run = f"{RUN}-weights".replace("d6", "d1")
    before = state(clone)
    options = ("--cores", "1", "--mode", "remote", "--force", "--nolock", "--allowed-rules", "extract", "--target-jobs")
    job = "extract:run=linear/lsa-d1-weights,scale=smoke,seed=1"
    snakemake(clone, *options, job, *SMOKE, "runs={linear/lsa-d1-weights: {training: {lr: 3e-3}}}")
    changed = {Path(path).relative_to(clone) for path, then in state(clone).items() if before.get(path) != then}
    written = {path.name for path in changed if str(path).startswith(run)}
    assert {"weights.parquet", "structure.parquet"} <= written
    assert not any(name.endswith(".made.json") or name in ("weights.safetensors", "spec.json") for name in written)


def test_the_old_figure_is_not_the_new_one(clone: Path) -> None:
    """What is made again has its record, and comes back when it is copied on."""
    settings = (*SMOKE, "runs={linear/lsa-d1-weights: {training: {lr: 3e-3}}}")
    figure = clone / "figures/fig13.pdf"
    old = figure.read_bytes()
    snakemake(clone, "figures/fig13.pdf", *settings)
    assert figure.read_bytes() != old
    assert json.loads((clone / "results/smoke/runs/linear/lsa-d1-weights/seed-1/spec.json").read_text())["training"]["lr"] == 3e-3
    shutil.rmtree(clone / ".snakemake")
    assert planned(clone, "figures/fig13.pdf", *settings) == {}
    assert planned(clone, "figures/fig13.pdf", *SMOKE)["train"] == 2
