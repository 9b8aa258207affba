"""The SLURM profile on a real SLURM with emulated GPUs: the same tables as the local run's, value for value."""

import ast
import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from slurm_cluster import GPUS, OPTIONS, Night, clone, jobs, running
from snakemake.cli import get_profile_dir
from workflow_folder import ALL, ROOT, planned, snakemake, with_slurm_plugin

from mesaopt.figures.registry import FIGURES

SMOKE = "scale=smoke"
on_slurm = pytest.mark.system("it installs and starts a SLURM")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running(tmp_path_factory.mktemp("slurm")):
        yield


def same_tables(one: Path, other: Path) -> list[str]:
    """Names of the tables of figures, which must be the same in both folders."""
    folders = [folder / "results/smoke/tables" for folder in (one, other)]
    tables, others = (sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")) for folder in folders)
    assert tables == others
    for name in tables:
        frames = [pd.read_parquet(folder / name) for folder in folders]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    return tables


@with_slurm_plugin
def test_the_profile_is_found_from_the_root_and_means_the_paper(tmp_path: Path) -> None:
    assert (ROOT / "slurm").resolve() == ROOT / "workflow/profiles/slurm"
    folder = clone(tmp_path / "clone")
    figure = "results/paper/figures/fig13.pdf"
    jobs = planned(folder, "--profile", "slurm", figure)
    assert jobs["train_linear-lsa-d1-weights_1_to_11111"] == 1
    assert planned(folder, "--profile", "slurm", "figures/fig13.pdf", "--config", "device=cpu", "scale=paper")["train"] == 5


def with_gres(folder: Path, gres: str) -> None:
    """In the clone's profile, trainings ask for `gres` in place of a whole GPU, as the comment there says."""
    profile = folder / "workflow/profiles/slurm/profile.yaml"
    text = profile.read_text().replace("    gpu: 1\n", "")
    profile.write_text(re.sub(r"    # gres: \S+ .*\n", f"    gres: {gres}\n", text))
    assert yaml.safe_load(profile.read_text())["set-resources"]["train"]["gres"] == gres


@with_slurm_plugin
@pytest.mark.parametrize("gres", ["gpu:1g.10gb:1", "mps:25", "shard:1"])
def test_a_part_of_a_gpu_is_asked_for_by_a_pack_too(tmp_path: Path, gres: str) -> None:
    folder = clone(tmp_path / "clone")
    with_gres(folder, gres)
    output = snakemake(folder, "-n", "--profile", "slurm", "results/paper/figures/fig13.pdf")
    block = output.partition("rule train_linear-lsa-d1-weights_1_to_11111:")[2].partition("\n\n")[0]
    assert f"gres={gres}" in block and "gpu=" not in block


@on_slurm
def test_a_training_runs_on_the_gpu_that_gres_names(cluster: None, tmp_path: Path) -> None:
    remote = clone(tmp_path / "remote")
    with_gres(remote, "gpu:test:1")
    Night(remote, "results/smoke/tables/fig13.parquet", SMOKE).end()
    (training,) = jobs(remote, "rule_train")
    assert training["Comment"].startswith("rule_train_linear-lsa-d1-weights_1_to_11")
    assert training["TresPerNode"] == "gres:gpu:test:1" and "TresPerJob" not in training


def measured(folder: Path, job: str) -> dict[str, int]:
    """What the job had asked for, as it stands beside what it used of it."""
    lines = (folder / f"results/smoke/benchmarks/{job}.tsv").read_text().splitlines()
    (row,) = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert float(row["s"]) > 0 and float(row["max_rss"]) > 0 and int(row["threads"]) > 0
    asked = ast.literal_eval(row["resources"])
    return {name: asked[name] for name in ("mem_mb", "runtime", "gpu") if name in asked}


def most_at_once(jobs: list[dict[str, str]]) -> int:
    """The largest number of jobs that ran in the same second."""
    return max(sum(job["StartTime"] <= other["StartTime"] < job["EndTime"] for job in jobs) for other in jobs)


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_a_profile_is_the_file_that_snakemake_looks_for_first(profile: str) -> None:
    """`config.yaml` is its older name. Of both in one folder Snakemake takes whichever the file system lists first."""
    folder = ROOT / "profiles" / profile
    assert get_profile_dir(str(folder)) == (folder, folder / "profile.yaml")
    assert [path.name for path in folder.iterdir()] == ["profile.yaml"]


def test_what_the_profile_says_of_rules_is_about_rules() -> None:
    """Quick analyses are in a group by their entry; a name here that is no rule would do nothing, silently."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
    named = {"train", "train_language", "learn", "sequences", "evaluate_algorithm"}
    assert set(profile["groups"]) | set(profile["set-resources"]) == named
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert all(f"\nrule {name}:\n" in rules for name in named)
    assert set(profile["group-components"]) == {*profile["groups"].values(), "analysis"}


@with_slurm_plugin
def test_quick_analyses_share_slurm_jobs(tmp_path: Path) -> None:
    output = snakemake(clone(tmp_path / "clone"), "-n", "--profile", "slurm", "figures/fig3.pdf", "--config", SMOKE)
    blocks = output.split("Group job ")[1:]
    assert {"analysis", "theory"} <= {block.partition(" ")[0] for block in blocks}
    rules = re.findall(
        r"^    (?:rule|localrule) (\w+):$", "".join(b for b in blocks if b.startswith("analysis ")), flags=re.MULTILINE
    )
    assert set(rules) == {"evaluate", "evaluate_extract", "evaluate_extract_probe", "extract", "interpolate_match"}


@on_slurm
def test_a_miniature_on_slurm(cluster: None, tmp_path: Path) -> None:
    local, remote = clone(tmp_path / "local"), clone(tmp_path / "remote")
    Night(remote, "figures/fig13.pdf", SMOKE).end()
    snakemake(local, "figures/fig13.pdf", "--config", SMOKE)
    assert same_tables(local, remote) == ["fig13.parquet"]
    assert (remote / "figures/fig13.pdf").read_bytes().startswith(b"%PDF")
    training, analysis = jobs(remote)
    assert training["Comment"].startswith("rule_train_linear-lsa-d1-weights_1_to_11")
    assert (training["Partition"], training["TresPerJob"], training["NumCPUs"]) == ("gpu", "gres:gpu:1", "2")
    assert analysis["Comment"].startswith("rule_analysis")
    assert (analysis["Partition"], analysis.get("TresPerJob")) == ("cpu", None)
    assert (training["Requeue"], analysis["Requeue"]) == ("1", "1"), "though the cluster's default is not to"
    assert measured(remote, "train/linear/lsa-d1-weights/seeds-1-to-11") == {"mem_mb": 4000, "runtime": 60, "gpu": 1}
    assert measured(remote, "extract/linear/lsa-d1-weights/seed-1") == {"mem_mb": 3000, "runtime": 15}
    assert planned(remote, *OPTIONS, "figures/fig13.pdf", "--config", SMOKE) == {}
    done = subprocess.run([sys.executable, "-m", "mesaopt", "orphans"], cwd=remote, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "no jobs of this folder are in SLURM's queue\n")


@on_slurm
@pytest.mark.long
def test_every_figure_on_slurm(cluster: None, smoke_all: Path, tmp_path: Path) -> None:
    remote = clone(tmp_path / "remote")
    Night(remote, "all", *ALL).end(timeout=3600)
    assert len(same_tables(smoke_all, remote)) == len(FIGURES)
    trainings = jobs(remote, "rule_train")
    assert trainings
    assert all(job["TresPerJob"] == "gres:gpu:1" for job in trainings)
    assert most_at_once(trainings) == GPUS, "a pack on each GPU, and no two on one"
    others = [job for job in jobs(remote) if job not in trainings]
    assert others
    assert not any("TresPerJob" in job for job in others)
    logs = remote / "results/smoke/logs"
    assert len(list(logs.rglob("*.log"))) >= len(jobs(remote))


def test_orphans_where_there_is_no_slurm_says_so_in_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "mesaopt", "orphans"], capture_output=True, text=True, env={"PATH": "/nowhere"})
    assert done.returncode == 1
    assert done.stderr == "mesaopt: error: squeue: No such file or directory; orphans can only be found where SLURM is\n"
