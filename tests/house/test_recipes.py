"""The recipes of CONTRIBUTING.md, followed word by word in a copy of the project."""

import subprocess
import sys
from pathlib import Path

import pytest
from recipes import ROOT, Step, clone, execute, recipes
from workflow_folder import planned

from mesaopt.figures.registry import runs

RECIPES = recipes()
SMOKE = ("--config", "scale=smoke")


def edit(folder: Path, steps: list[Step]) -> None:
    for step in steps:
        if not step.when:
            step.edit(folder)


def follow(folder: Path, steps: list[Step], when: str) -> None:
    for step in steps:
        if step.when == when:
            execute(folder, step.block)


def test_there_are_five() -> None:
    assert list(RECIPES) == ["A layer", "A task", "An analysis", "A figure", "A claim"]
    for steps in RECIPES.values():
        assert [step.when for step in steps if step.when] == ["Try", "Run"]
        assert all(bool(step.when) == (step.language == "bash") for step in steps)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_followed(name: str, tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    edit(folder, RECIPES[name])
    follow(folder, RECIPES[name], "Try")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which all five are followed, but for what is to be run."""
    folder = clone(tmp_path_factory.mktemp("all") / "clone")
    for steps in RECIPES.values():
        edit(folder, steps)
    return folder


def test_what_they_add_is_clean(followed: Path) -> None:
    edited = {step.edits["path"] for steps in RECIPES.values() for step in steps if step.edits}
    code = " ".join(sorted(path for path in edited if path.endswith(".py")))
    execute(followed, f"ruff check {code} && ruff format --check {code}")


def test_they_plan_what_they_add_and_nothing_else(followed: Path) -> None:
    """One plan for all: the new runs, the new table, the new figure."""
    targets = [word for steps in RECIPES.values() for step in steps if step.when == "Run" for word in step.block.split()]
    jobs = planned(followed, *[word for word in targets if word.startswith(("results/", "figures/"))], *SMOKE)
    assert jobs["norms"] == jobs["draw_ext-odd"] == jobs["draw_ext-layers"] == 1 and jobs["collect"] == jobs["publish"] == 2
    shown = {*runs("ext/layers"), *(f"linear/lsa-d{depth}" for depth in (1, 3, 5, 7)), "linear/decaying-d1"}
    assert jobs["train"] == 2 * len(shown) + 1  # both seeds for the figures, one of the new task


def test_nothing_that_exists_is_trained_again(followed: Path) -> None:
    """The code that jobs of every run there was depend on is what it was."""
    code = (
        "from pathlib import Path; from mesaopt.spec.plan import resolve; from mesaopt.spec.yaml_files import read_yaml;"
        "from mesaopt.store.fingerprint import code_fingerprint;"
        "plan = resolve(*(read_yaml(Path('config', f'{name}.yaml')) for name in ('experiments', 'scales', 'config')), 'paper');"
        "[print(name, code_fingerprint('mesaopt.training.loop', run.modules()), run.to_json())"
        " for name, run in sorted(plan.runs.items()) if not name.endswith('decaying-d1') and 'reflecting' not in name]"
    )
    before, after = (
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={"PYTHONPATH": f"{folder}/src"},
            text=True,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        for folder in (ROOT, followed)
    )
    assert before == after and len(before.splitlines()) > 20


@pytest.mark.long
def test_what_they_run(followed: Path) -> None:
    for steps in RECIPES.values():
        follow(followed, steps, "Run")
    assert (followed / "figures/ext/odd.pdf").exists()
    assert "At the last position one mesa-layer" in (followed / "docs/agreement.md").read_text()


@pytest.mark.long
def test_the_tests_hold_with_what_they_add(followed: Path) -> None:
    """Those that look at all stages, layers, tasks, figures and claims."""
    execute(followed, "snakemake write_page")
    rooms = "tests/spec tests/house/test_rooms.py tests/figures tests/models tests/data tests/agreement tests/stages/test_cli.py"
    execute(followed, f"python -m pytest -m 'not long' {rooms}", timeout=3000)
