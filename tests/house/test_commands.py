"""Every command of every page can be typed: planned by Snakemake or make, run where it is quick, or marked with why not.

The long tests run what computes something, at the smoke scale. Blocks of CONTRIBUTING.md are run by test_recipes.py.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from page_commands import BLOCK, MARK, PAGES, Command, commands
from recipes import clone as project
from workflow_folder import ROOT, environment, with_slurm_plugin

#: commands that are not run here, by how they begin, and why
ELSEWHERE = {
    "snakemake --report": "test_report.py makes the report",
    "python -m mesaopt orphans": "test_slurm.py and test_slurm_faults.py call it on a SLURM",
    "python -m mesaopt record": "test_record.py calls it; it needs what a training made, and git",
    "python -m pytest": "test_recipes.py runs it",
    "python benchmarks/": "test_benchmarks.py; they take minutes",
    "conda ": "conda's channels cannot be reached; test_conda.py has a stand-in",
    "git ": "it is git's",
    "buildah ": "test_image.py builds and saves the image, on another base",
    "apptainer ": "apptainer cannot be had",
    "generate-slurm-partition-config ": "test_slurm_options.py runs it on a SLURM",
}
PLACEHOLDER = re.compile(r"\b[A-Z]{4,}\b(?!=)")


def every() -> list[Command]:
    """Of all pages, each line once; without blocks of recipes."""
    found = [command for page in PAGES for command in commands(page)]
    recipes = [line for match in BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text()) for line in match["text"].splitlines()]
    lines = {command.line: command for command in found if command.line not in recipes}
    return list(lines.values())


def why_not(command: Command) -> str:
    """Why a command is not run here; nothing if it is."""
    if PLACEHOLDER.search(command.line.partition("--config")[0]):
        return "it says what is to be put in"
    return command.why or next((why for start, why in ELSEWHERE.items() if command.line.startswith(start)), "")


RUN = [command.line for command in every() if not why_not(command)]


def small(line: str) -> str:
    """A command at the smoke scale, unless it says `recorded`."""
    if "scale=recorded" in line:
        return line
    line = re.sub(r" scale=\w+", "", line).removesuffix(" --config").replace("results/paper/", "results/smoke/")
    return line.replace(" --config ", " --config scale=smoke ") if " --config " in line else f"{line} --config scale=smoke"


#: not the measurement of speed, which takes as long as it takes
TARGET = re.compile(r"(?<=\s)(?:figures|results)/(?!speed)\S+")
COMPUTES = list(
    dict.fromkeys(small(line) for line in RUN if TARGET.search(line) and "-s /path" not in line and "--dag" not in line)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone named as pages name one elsewhere, with the Makefile."""
    folder = project(tmp_path_factory.mktemp("path") / "to/clone")
    for name in ("Makefile", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    return folder


def typed(line: str, folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """The first command of a pipe, with `more` arguments; paths elsewhere are those of the clone."""
    words = shlex.split(line.partition(" | ")[0].replace("/path/to/clone", str(folder)))
    tool = {"snakemake": [sys.executable, "-m", "snakemake"], "python": [sys.executable, "-P"]}.get(words[0], [words[0]])
    where = folder
    if "-s" in words:
        where = folder.parent / "empty"
        where.mkdir(exist_ok=True)
    variables = environment() | ({"PYTHONPATH": str(folder / "src")} if words[0] == "python" else {})
    return subprocess.run([*tool, *words[1:], *more], cwd=where, env=variables, text=True, capture_output=True, timeout=3600)


def test_there_are_commands_and_marks_are_needed() -> None:
    assert len(RUN) > 15
    assert {line.split()[0] for line in RUN} == {"snakemake", "make", "python"}
    lines = [command.line for page in PAGES for command in commands(page)]
    for start in ELSEWHERE:
        assert any(line.startswith(start) for line in lines), f"{start!r} is on no page any more"
    for page in PAGES:
        marks = len(re.findall(r"<!-- not run: ", page.read_text()))
        assert marks == sum(bool(MARK.match(block["before"])) for block in BLOCK.finditer(page.read_text()))


@pytest.mark.parametrize("line", [pytest.param(line, marks=[with_slurm_plugin] * ("slurm" in line)) for line in RUN])
def test_a_command_of_a_page_can_be_typed(folder: Path, line: str) -> None:
    at_once = line.startswith("python") or "--dag" in line or "--unlock" in line
    done = typed(line, folder, *([] if at_once else ["-n"]))
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    if "--dag" in line:
        assert done.stdout.startswith("digraph"), "what dot is given"
        if shutil.which("dot"):
            subprocess.run(["dot", "-Tpdf"], input=done.stdout, text=True, check=True, stdout=subprocess.DEVNULL)


def public_ci() -> list[str]:
    """What the public CI file runs, as a page would say it: in the environment, with whatever Python make finds."""
    steps = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    return [line.removeprefix(".venv/bin/").removesuffix(' PYTHON="$(command -v python)"') for line in runs]


@pytest.mark.parametrize("line", public_ci())
def test_what_the_public_ci_runs_is_there(folder: Path, line: str) -> None:
    """Its file cannot be run here."""
    assert line.split()[0] in ("make", "snakemake") and not re.search("[$;&|]", line), line
    done = typed(line, folder, *([] if " -n " in line else ["-n"]))
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


@pytest.mark.long
@pytest.mark.parametrize("line", COMPUTES)
def test_what_a_command_of_a_page_names_is_made(folder: Path, line: str) -> None:
    """At the smoke scale, unless it says `recorded`."""
    done = typed(line, folder)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    for target in TARGET.findall(line):
        assert (folder / target).exists(), target
