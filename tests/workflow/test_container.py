"""`--sdm apptainer` as far as it goes without apptainer: a stand-in writes down what it is asked, and runs the job here."""

import subprocess
from pathlib import Path

import pytest
from apptainer import calls, executed, stand_in
from workflow_folder import command, copy_workflow, environment, planned, snakemake

IMAGE = "docker://example.org/mesaopt:1"
SMOKE = ("--config", "scale=smoke")
TARGET = "results/smoke/data/linear/seed-1.parquet"
#: appended to the workflow: the image of every rule that has a command
TELL = """
for one in workflow.rules:
    if one.shellcmd:
        print(f"image of {one.name}: {one.container_img} {one.is_containerized}")
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_workflow(tmp_path / "clone")


@pytest.mark.parametrize("given", [[f"container={IMAGE}"], [], ["container="], ["container=null"]], ids=str)
def test_every_job_has_the_image_of_the_configuration_or_none(clone: Path, given: list[str]) -> None:
    with (clone / "workflow/Snakefile").open("a") as workflow:
        workflow.write(TELL)
    output = snakemake(clone, "-n", TARGET, *SMOKE, *given)
    told = [line.partition(": ")[2] for line in output.splitlines() if line.startswith("image of ")]
    assert len(told) > 50
    assert set(told) == {f"{IMAGE} True" if given == [f"container={IMAGE}"] else "None False"}


def test_jobs_run_in_the_container(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path)
    asked = ("--sdm", "apptainer", "--apptainer-args=--nv", *SMOKE, f"container={IMAGE}")
    jobs = sum(planned(clone, TARGET, *asked).values())
    snakemake(clone, TARGET, *asked)
    ran = executed(tmp_path)
    assert len(ran) == jobs > 0
    assert all(f"--home {clone} --nv " in line and ".simg bash -c " in line for line in ran)
    assert any(line.endswith(IMAGE) for line in calls(tmp_path)), "it was pulled"
    for elsewhere in (SMOKE, (*asked[:-1], f"container={IMAGE}2")):
        assert planned(clone, TARGET, *elsewhere) == {}, "in whichever container it was made, a result is the same one"


def test_without_an_image_nothing_is_asked_of_apptainer(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path)
    snakemake(clone, TARGET, "--sdm", "apptainer", *SMOKE)
    assert (clone / TARGET).exists() and calls(tmp_path) == []


def test_an_image_that_is_not_there_is_named_before_anything_runs(clone: Path) -> None:
    words = command(TARGET, "--sdm", "apptainer", *SMOKE, "container=images/mesaopt.sif")
    done = subprocess.run(words, cwd=clone, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "mesaopt: error: config: container: there is no image images/mesaopt.sif\n" in done.stderr
    assert "Traceback" not in done.stderr and not (clone / "results").exists()
    snakemake(clone, "-n", TARGET, *SMOKE, "container=images/mesaopt.sif")  # without containers it is not looked for


def test_a_workflow_with_an_image_is_clean(clone: Path) -> None:
    assert "Congratulations" in snakemake(clone, "--lint", "--config", f"container={IMAGE}")
