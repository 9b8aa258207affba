"""What the profile for SLURM offers besides jobs: limits of partitions, excluded nodes, a report of efficiency, a container."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from apptainer import executed, stand_in
from slurm_cluster import Night, clone, jobs, running

pytestmark = [pytest.mark.long, pytest.mark.system("it installs and starts a SLURM")]
SMOKE = "scale=smoke"
SEQUENCES = "results/smoke/data/linear/seed-1.parquet"
WEIGHTS = "results/smoke/runs/linear/lsa-d1-weights/seed-1/weights.safetensors"
#: a job of two cores that ran for 100 s, used 50 s of them and a quarter of its memory; the user has no account
SACCT = """#!/bin/bash
case "$*" in
  --name=*)
    name=${1#--name=}
    echo "7|$name|rule_sequences_wildcards_smoke|00:01:40||1|2||1000M"
    echo "7.batch|batch||00:01:40|00:00:01|1|2|1M|"
    echo "7.0|python||00:01:40|00:50|1|2|250M|" ;;
  *) echo none ;;
esac
"""


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running(tmp_path_factory.mktemp("slurm")):
        yield


def limits(folder: Path) -> dict[str, dict[str, object]]:
    """The file of limits that the plugin's own program makes for the profile in `folder`."""
    path = folder / "workflow/profiles/slurm/partitions.yaml"
    program = Path(sys.executable).parent / "generate-slurm-partition-config"
    done = subprocess.run([program, "-o", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(path.read_text())["partitions"]


def test_partitions_are_chosen_by_their_limits(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    profile = folder / "workflow/profiles/slurm/profile.yaml"
    lines = [line for line in profile.read_text().splitlines() if "    slurm_partition" not in line]
    lines = [line for line in lines if not line.startswith("  slurm_partition")]
    profile.write_text("\n".join(lines).replace("# slurm-partition-config", "slurm-partition-config") + "\n")
    found = limits(folder)
    assert {name: limit["max_runtime"] for name, limit in found.items()} == {"cpu": "02:00:00", "gpu": "02:00:00"}
    assert not any("max_gpu" in limit for limit in found.values()), "which GPUs there are it does not see without accounting"
    found["gpu"]["max_gpu"] = 1
    (profile.parent / "partitions.yaml").write_text(yaml.safe_dump({"partitions": found}))
    output = Night(folder, "results/smoke/tables/fig13.parquet", SMOKE).end()
    assert "Auto-selected partition 'gpu' for job train" in output
    assert [job["Partition"] for job in jobs(folder)] == ["gpu", "cpu"]


def test_nodes_that_are_known_to_be_bad_are_excluded(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    Night(folder, SEQUENCES, SMOKE, "--slurm-exclude-failed-nodes", "gone").end()
    (job,) = jobs(folder)
    assert (job["ExcNodeList"], job["JobState"]) == ("gone", "COMPLETED")


def test_without_accounting_a_report_of_efficiency_says_that_there_is_none(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    output = Night(folder, SEQUENCES, SMOKE, "--slurm-efficiency-report").end()
    assert "Failed to retrieve job data for workflow" in output
    assert not list(folder.glob("efficiency_report*"))


def test_a_report_of_efficiency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for SLURM's accounting, and the profile's lines as their comments say."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sacct").write_text(SACCT)
    (tmp_path / "bin/sacct").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    folder = clone(tmp_path / "clone")
    profile = folder / "workflow/profiles/slurm/profile.yaml"
    profile.write_text(profile.read_text().replace("# slurm-efficiency-report", "slurm-efficiency-report"))
    output = Night(folder, SEQUENCES, SMOKE).end()
    (report,) = (folder / "results/efficiency").glob("efficiency_report_*.csv")
    (row,) = pd.read_csv(report).to_dict("records")
    assert row["RuleName"] == "rule_sequences_wildcards_smoke"
    assert (row["CPU Efficiency (%)"], row["Memory Usage (%)"]) == (25.0, 25.0)
    assert "low CPU efficiency" not in output, "its threshold means percent, so it warns below 1 % at most"


def test_jobs_run_in_the_container_that_sees_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for apptainer, which the job of a node calls, too."""
    stand_in(monkeypatch, tmp_path)
    folder = clone(tmp_path / "clone")
    Night(folder, WEIGHTS, SMOKE, "container=docker://example.org/mesaopt:1").end()
    (job,) = jobs(folder, "rule_train")
    assert (job["JobState"], job["TresPerJob"]) == ("COMPLETED", "gres:gpu:1")
    (call,) = executed(tmp_path)
    assert " --nv " in call and ".simg bash -c " in call and "mesaopt train" in call
