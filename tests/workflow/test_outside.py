"""Started from elsewhere, or used by another workflow: shipped files are found, results stay in the working folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workflow_folder import ROOT, copy_workflow, environment, planned, snakemake

SMOKE = ("--config", "scale=smoke")
RECORDED = ("--config", "scale=recorded")
RUN = "results/smoke/runs/linear/lsa-d1-weights"
#: names of modules that jobs import, or Snakemake because of us; and ours
PLANTED = (
    "json.py",
    "statistics.py",
    "difflib.py",
    "jsonschema.py",
    "torch.py",
    "numpy.py",
    "pandas.py",
    "yaml.py",
    "mesaopt.py",
)


def plant(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in PLANTED:
        (folder / name).write_text(f"raise SystemExit('{name} of the working folder is imported')\n")
    return folder


def as_installed(folder: Path, *arguments: str) -> str:
    """Output of the command `snakemake`; `python -m snakemake` would look for Snakemake's own modules in `folder`."""
    command = [str(Path(sys.executable).parent / "snakemake"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with recorded tables in a folder that a shell must be told about with care."""
    folder = plant(copy_workflow(tmp_path_factory.mktemp("clone") / "it's a $HOME"))
    shutil.copytree(ROOT / "results/recorded", folder / "results/recorded")
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("desk") / "it's elsewhere")


def test_recorded_tables_are_drawn_and_judged_elsewhere(clone: Path, desk: Path) -> None:
    before = files(clone)
    output = as_installed(desk, "-s", str(clone / "Snakefile"), "agreement", "figures/fig2.pdf", *RECORDED)
    assert f"workflow specific profile {clone}/profiles/default" in output
    assert (desk / "figures/fig2.pdf").read_bytes().startswith(b"%PDF")
    assert (desk / "results/recorded/agreement.md").read_text() == (ROOT / "docs/agreement.md").read_text()
    assert files(clone) == before
    assert not (desk / "results/recorded/tables").exists()


def test_trainings_elsewhere_see_no_module_of_the_working_folder(clone: Path, desk: Path) -> None:
    """A job of two seeds, in a process each, and one that reads their weights."""
    options = ("-s", str(clone / "workflow/Snakefile"), "--directory", str(desk), "--cores", "2")
    output = as_installed(desk.parent, *options, f"{RUN}/seed-1/loss.parquet", *SMOKE, "pack=2", "backend=torch")
    assert f"workflow specific profile {clone}/workflow/profiles/default" in output
    assert {path.name for path in (desk / RUN).iterdir()} == {"seed-1", "seed-11"}
    assert (desk / RUN / "seed-1/loss.parquet").exists()
    assert not (clone / "results/smoke").exists()


def test_planted_modules_in_the_clone_itself(clone: Path) -> None:
    assert "draw_fig2" in as_installed(clone, "-n", "figures/fig2.pdf", *SMOKE)


def test_both_snakefiles_plan_the_same_everywhere(clone: Path, tmp_path: Path) -> None:
    here = planned(ROOT, "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "all", *SMOKE)
    there = planned(tmp_path, "-s", str(clone / "workflow/Snakefile"), "all", *SMOKE)
    assert here == there
    assert here["train"] >= 10


def test_the_clone_may_move(clone: Path) -> None:
    """What a job depends on names files of the project from its own folder, not from the root of the disk."""
    targets = ("results/recorded/figures/fig2.png", "figures/agreement.pdf", *RECORDED)
    as_installed(clone, *targets)
    moved = clone.rename(clone.with_name("moved"))
    output = as_installed(moved, "-n", *targets)
    moved.rename(clone)
    assert "Nothing to be done" in output


MODULE = """
module mesaopt:
    snakefile: {snakefile!r}
    config: {config}

use rule * from mesaopt{renamed}

rule mine:
    default_target: True
    input: "results/smoke/data/linear/seed-1.parquet"
    output: "mine.txt"
    shell: "python tool.py > {{output}}"
"""


def caller(folder: Path, config: str, renamed: str = "", snakefile: Path = ROOT / "workflow/Snakefile") -> Path:
    """A workflow with a rule of its own, whose tool imports its neighbour."""
    folder.mkdir()
    (folder / "Snakefile").write_text(MODULE.format(snakefile=str(snakefile), config=config, renamed=renamed))
    (folder / "tool.py").write_text("import neighbour\n")
    (folder / "neighbour.py").write_text("print('a module of my own')\n")
    return folder


def test_a_workflow_that_uses_this_one_as_a_module(clone: Path, tmp_path: Path) -> None:
    folder = caller(tmp_path / "caller", "config", " as mesaopt_*", clone / "workflow/Snakefile")
    own = planned(tmp_path, "-s", str(ROOT / "Snakefile"), "figures/fig13.pdf", *SMOKE, "pack=2")
    jobs = planned(folder, "figures/fig13.pdf", *SMOKE, "pack=2")
    assert jobs == {f"mesaopt_{name}": count for name, count in own.items()}
    assert any(name.startswith("train_linear") for name in own)
    snakemake(folder, "--cores", "1", *SMOKE)
    assert (folder / "mine.txt").read_text() == "a module of my own\n"
    assert (folder / "results/smoke/data/linear/seed-1.parquet").exists()


def test_a_module_needs_no_settings(tmp_path: Path) -> None:
    plain = planned(tmp_path, "-s", str(ROOT / "Snakefile"), "figures/fig13.pdf")
    assert planned(caller(tmp_path / "caller", "{}"), "figures/fig13.pdf") == plain


def error(output: str) -> str:
    assert "Traceback" not in output, output
    (line,) = re.findall(r"mesaopt: error: .*", output)
    return line


def test_mistakes_of_a_module_are_one_line(tmp_path: Path) -> None:
    misspelt = caller(tmp_path / "misspelt", '{"scal": "smoke"}')
    assert error(snakemake(misspelt, "-n", succeed=False)).endswith("config: unknown key 'scal': did you mean 'scale'?")
    moved = caller(tmp_path / "moved", '{"scale": "smoke"}\n    prefix: "x"')
    assert "this module takes no prefix" in error(snakemake(moved, "-n", succeed=False))


@pytest.mark.parametrize("target", ["agreement", "all", "figures/fig2.pdf", "figures/speed.pdf"])
def test_without_recorded_tables_there_is_one_line(tmp_path: Path, target: str) -> None:
    folder = copy_workflow(tmp_path / "clone")
    line = error(snakemake(folder, "-n", target, *RECORDED, succeed=False))
    assert "no recorded tables" in line or "not recorded yet" in line


def test_the_reproduction_finds_the_snakefile_whatever_its_folder_is_called(clone: Path, tmp_path: Path) -> None:
    """The printed command, with commands that only say their arguments."""
    printed = as_installed(clone, "-np", "reproduction")
    (command,) = re.findall(r"(\( rm -rf .*)$", printed, flags=re.MULTILINE)
    saying = 'snakemake() { printf "%s\\n" "$@"; }; python() { :; }; mkdir -p results/smoke/logs; '
    done = subprocess.run(["bash", "-euc", saying + command], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines().count(str(clone / "workflow/Snakefile")) == 2


def test_the_links_of_a_clone_lead_to_the_profiles() -> None:
    assert os.readlink(ROOT / "profiles") == "workflow/profiles"
    assert os.readlink(ROOT / "slurm") == "workflow/profiles/slurm"
    assert len((ROOT / "Snakefile").read_text().splitlines()) < 10


def test_the_version_that_is_asked_for_is_the_one_that_is_pinned() -> None:
    (asked,) = re.findall(r'min_version\("([\d.]+)"\)', (ROOT / "workflow/Snakefile").read_text())
    assert f"snakemake=={asked}\n" in (ROOT / "requirements.txt").read_text()
    assert f"snakemake-minimal={asked}\n" in (ROOT / "environment.yml").read_text()


def test_rules_keep_to_the_habits_that_outsiders_need() -> None:
    for path in [ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]:
        code = "\n".join(line.partition("# ")[0] for line in path.read_text().splitlines())
        assert "workflow.basedir" not in code, path
        assert not re.search(r"'\{[^{}]*\}'", code), path
        assert not re.search(r'" ?python (?!-P )', code), path
