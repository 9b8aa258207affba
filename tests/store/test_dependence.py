"""What reruns what: a job depends on its stage and on what its run names, and on nothing else."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stage_files import MODELS, TASK, TRAINING
from stripped import stripped

from mesaopt.spec.run import Run
from mesaopt.spec.words import FOLDERS
from mesaopt.store.fingerprint import SOURCES, code_fingerprint, modules_behind

TRAINING_LOOP = "mesaopt.training.loop"
#: the words of some runs
RUNS = {
    "mesa": ("mesaopt.data.tasks.linear", "mesaopt.models.layers.mesa", "mesaopt.models.objectives.squared_error"),
    "linear": ("mesaopt.data.tasks.linear", "mesaopt.models.layers.linear", "mesaopt.models.objectives.squared_error"),
    "contracting": ("mesaopt.data.tasks.contracting", "mesaopt.models.layers.linear", "mesaopt.models.objectives.squared_error"),
}


def append(path: str, text: str) -> Callable[[Path], None]:
    def change(sources: Path) -> None:
        file = sources / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((file.read_text() if file.exists() else "") + text)

    return change


def replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(sources: Path) -> None:
        text = (sources / path).read_text()
        assert old in text
        (sources / path).write_text(text.replace(old, new))

    return change


CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a task file": (append("data/tasks/new.py", "x = 1\n"), set()),
    "a layer file": (append("models/layers/new.py", "x = 1\n"), set()),
    "an objective": (append("models/objectives/new.py", "x = 1\n"), set()),
    "a stage file": (append("stages/new.py", "x = 1\n"), set()),
    "a stage's announcement": (append("spec/stages.py", "x = 1\n"), set()),
    "a figure": (append("figures/families/new.py", "x = 1\n"), set()),
    "a table": (append("store/tables.py", "x = 1\n"), set()),
    "a progress text": (replace("process/progress.py", "finished (", "done ("), set()),
    "an exit message": (replace("errors.py", "diverged at step", "left the sane range at step"), set()),
    "what a backend says": (replace("backends/choose.py", "PyTorch takes over", "PyTorch steps in"), set()),
    "the equation of mesa": (append("models/layers/mesa.py", "x = 1\n"), {"mesa"}),
    "the sequences of contracting": (append("data/tasks/contracting.py", "x = 1\n"), {"contracting"}),
    "the optimiser": (append("training/optimizer.py", "x = 1\n"), set(RUNS)),
    "the kernel": (append("backends/native/kernel.cpp", "int x = 1;\n"), set(RUNS)),
    "a header of the kernel": (append("backends/native/mlp.h", "int x = 1;\n"), set(RUNS)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_retrains_what(tmp_path: Path, what: str) -> None:
    change, expected = CHANGES[what]
    sources = tmp_path / "mesaopt"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    change(sources)
    changed = {
        name for name, of in RUNS.items() if code_fingerprint(TRAINING_LOOP, of, sources) != code_fingerprint(TRAINING_LOOP, of)
    }
    assert changed == expected


def test_runs_name_their_modules() -> None:
    run = Run("linear/mesa", TASK, MODELS["mesa"], TRAINING)
    assert run.modules() == RUNS["mesa"]
    assert set(RUNS["mesa"]) <= modules_behind(TRAINING_LOOP, run.modules())
    every = {f"mesaopt.{folder.replace('/', '.')}" for folder in FOLDERS.values()}
    unnamed = {name for name in modules_behind(TRAINING_LOOP) if name.rpartition(".")[0] in every}
    assert not unnamed, "no word is imported that the run does not say"


def test_a_training_needs_nothing_but_what_it_depends_on(tmp_path: Path) -> None:
    run = Run("linear/bare", TASK, MODELS["bare"], TRAINING)
    sources = stripped(tmp_path / "src", modules_behind(TRAINING_LOOP, run.modules()))
    code = (
        f"import sys; sys.path.insert(0, {str(sources)!r}); from pathlib import Path; from mesaopt.spec.run import Run;"
        f"from mesaopt.training.loop import Options, train;"
        f"train(Run.from_json({run.to_json()!r}), {{1: Path('seed-1')}}, Options(Path('checkpoints'), backend='torch'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "OMP_NUM_THREADS": "1"}, cwd=tmp_path)
    assert (tmp_path / "seed-1/weights.safetensors").exists()
