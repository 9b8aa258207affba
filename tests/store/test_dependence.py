"""What reruns what: a job depends on its stage and on what its run names, and on nothing else."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stage_files import MODELS, TASK, TRAINING, sequences, trained

from mesaopt.spec.run import Run
from mesaopt.spec.words import FOLDERS
from mesaopt.store.fingerprint import SOURCES, WITHOUT_NUMBERS, code_fingerprint, modules_behind

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


def stripped(folder: Path, modules: set[str]) -> Path:
    """A package that holds nothing but `modules`, what lies beside them, and the rooms that never count."""
    for path in SOURCES.rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        parts = path.relative_to(SOURCES).with_suffix("").parts
        name = ".".join(["mesaopt", *parts]).removesuffix(".__init__")
        wanted = name in modules or parts[0] in WITHOUT_NUMBERS or name == "mesaopt" or path.suffix in (".cpp", ".h")
        if wanted:
            target = folder / "mesaopt" / path.relative_to(SOURCES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder


CALLS = {
    "mesaopt.stages.evaluate": "evaluate_run({weights!r}, {sequences!r}, 'any', {out!r})",
    "mesaopt.stages.extract": "extract_run({weights!r}, {out!r}, {out!r} + '.structure')",
}


@pytest.mark.parametrize("module", CALLS)
def test_a_stage_needs_nothing_but_what_it_depends_on(tmp_path: Path, module: str) -> None:
    weights, data = trained(tmp_path / "seed-1", "mesa"), sequences(tmp_path)
    run = Run("linear/mesa", TASK, MODELS["mesa"], TRAINING)
    sources = stripped(tmp_path / "src", modules_behind(module, run.modules()))
    assert not (sources / "mesaopt/models/layers/softmax.py").exists() and not (sources / "mesaopt/figures").exists()
    call = CALLS[module].format(weights=str(weights), sequences=str(data), out=str(tmp_path / "out.parquet"))
    code = f"import sys; sys.path.insert(0, {str(sources)!r}); from {module} import *; {call}"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "OMP_NUM_THREADS": "1"}, cwd=tmp_path)
    assert (tmp_path / "out.parquet").exists()


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
