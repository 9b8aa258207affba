"""Every stage that computes or draws runs with nothing but the code that its jobs depend on, and the rooms that never count."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import bare_stages
import pytest
from stage_files import MODELS, TASK, TRAINING, N
from stripped import stripped
from write_faults import CHAIN, RUN, SEED

from mesaopt.__main__ import main
from mesaopt.data.files import write_sequences
from mesaopt.data.shards import tokenise_stage
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.language import LanguageModel, LanguageRun, LanguageTraining
from mesaopt.spec.run import Run, Task
from mesaopt.spec.stages import STAGES, stage
from mesaopt.spec.text import Text
from mesaopt.stages.learn import learn_stage
from mesaopt.store.fingerprint import modules_behind
from mesaopt.training.language import LanguageOptions, train_language
from mesaopt.training.loop import Options, train

ROOT = Path(__file__).parents[2]
NONLINEAR = Task("nonlinear", n_state=N, n_obs=N, context_length=8)
PAIRS = replace(TASK, name="few-shot", kind="few_shot")
COUNTS = {"evaluation": 300, "probe_fit": 90, "probe_score": 40}
KEPT = replace(TRAINING, horizon=8, test_every=2, snapshot_every=2)
RUNS = {
    "lsa": Run("linear/lsa", TASK, MODELS["linear"], KEPT),
    "raw": Run("linear/raw", TASK, MODELS["raw"], KEPT),
    "mlp": Run("nonlinear/mlp", NONLINEAR, MODELS["full-mesa"], KEPT),
    "soft": Run("linear/soft", TASK, replace(MODELS["softmax"], clip=None, init_std=0.3), KEPT),
}
SHORTER = replace(RUNS["lsa"], name="linear/shorter", training=replace(KEPT, steps=2, snapshot_every=0))
CHEBYSHEV = Theory("linear/p", TASK, "chebyshev", steps=2, lr=0.01, batch=8, n_steps=2, warmup=1)
PUBLISHED = f"--published-theory {replace(CHEBYSHEV, form='published').to_json()} --published-parameters parameters.parquet"
MINIATURE = Run.from_dict(RUN)
TEXT = Text("text", ("folder",), context_length=8, path="text", validation=0.3)
LANGUAGE = LanguageRun(
    "text/mesa",
    TEXT,
    LanguageModel(("softmax", "mesa"), d_model=4, n_heads=1, d_head=4, nu=1),
    LanguageTraining(tokens=32, batch=2, test_every=1, test_sequences=2),
)


class Both:
    """The words of several specs."""

    def __init__(self, *specs: Run | Task) -> None:
        self.specs = specs

    def modules(self) -> tuple[str, ...]:
        return tuple(name for spec in self.specs for name in spec.modules())


#: whose words are read, and what is typed after the stage; files of `inputs` are named without their folder
CALLS = {
    "data": (TASK, f"--task {TASK.to_json()} --seed 1 --counts evaluation=4 --sequences s.parquet --systems y.parquet"),
    "begin": (SHORTER, f"--spec {SHORTER.to_json()} --longer lsa/seed-1 --weights seed-1/weights.safetensors"),
    "learn": (CHEBYSHEV, f"--spec {CHEBYSHEV.to_json()} --seed 1 --out p.parquet"),
    "evaluate": (RUNS["lsa"], "--weights lsa/seed-1/weights.safetensors --sequences linear.parquet --name any --out o.parquet"),
    "extract": (RUNS["lsa"], "--weights lsa/seed-1/weights.safetensors --out o.parquet --structure s.parquet"),
    "interpolate": (
        RUNS["lsa"],
        "--extracted lsa/seed-1/weights.safetensors --snapshots lsa/seed-1/snapshots.safetensors --out o.parquet",
    ),
    "match": (
        RUNS["lsa"],
        "--first lsa/seed-1/snapshots.safetensors --snapshots lsa/seed-1/snapshots.safetensors"
        " --matching o.parquet --losses l.parquet",
    ),
    "probe": (
        RUNS["lsa"],
        "--weights lsa/seed-1/weights.safetensors --sequences linear.parquet --parameters parameters.parquet"
        f" --theory {CHEBYSHEV.to_json()} {PUBLISHED} --controls --probes o.parquet --in-context i.parquet",
    ),
    "control-probe": (
        RUNS["lsa"],
        f"--sequences linear.parquet --parameters parameters.parquet --theory {CHEBYSHEV.to_json()} {PUBLISHED} --out o.parquet",
    ),
    "token-probes": (
        RUNS["raw"],
        "--weights raw/seed-1/weights.safetensors --sequences linear.parquet --controls --out o.parquet",
    ),
    "attention": (
        RUNS["raw"],
        "--weights raw/seed-1/weights.safetensors --sequences linear.parquet --controls --out o.parquet --lags l.parquet",
    ),
    "sensitivity": (RUNS["raw"], "--snapshots raw/seed-1/snapshots.safetensors --sequences linear.parquet --out o.parquet"),
    "feature-probes": (
        RUNS["mlp"],
        "--weights mlp/seed-1/weights.safetensors --sequences nonlinear.parquet --controls --out o.parquet",
    ),
    "tune-prompts": (
        Both(RUNS["soft"], PAIRS),
        f"--weights soft/seed-1/weights.safetensors --task {PAIRS.to_json()} --checkpoints c"
        " --tokens t.parquet --tuning u.parquet"
        ' --settings {"separators":1,"prefix":1,"steps":2,"separator_batch":2,"prefix_batch":2}',
    ),
    "few-shot": (
        RUNS["soft"],
        "--weights soft/seed-1/weights.safetensors --pairs few-shot.parquet --tokens tokens.parquet --out o.parquet"
        ' --ascent a.parquet --settings {"first_pairs":1}',
    ),
    "distil": (
        RUNS["soft"],
        "--weights soft/seed-1/weights.safetensors --checkpoints c --linear-layers l.safetensors --distillation d.parquet"
        ' --settings {"steps":2,"batch":2,"recorded":2}',
    ),
    "linearise": (
        RUNS["soft"],
        "--weights soft/seed-1/weights.safetensors --linear-layers linear.safetensors --out o.parquet"
        ' --settings {"test_batches":1,"test_batch":2}',
    ),
    "linear-weights": (
        RUNS["soft"],
        "--weights soft/seed-1/weights.safetensors --linear-layers linear.safetensors --out o.parquet",
    ),
    "evaluate-theory": (
        CHEBYSHEV,
        f"--spec {CHEBYSHEV.to_json()} --parameters parameters.parquet --sequences linear.parquet --seed 1 --name any"
        " --out o.parquet",
    ),
    "tokenise": (TEXT, ["--spec", TEXT.to_json(), "--out", "o/tokens.json"]),
    "train-language": (
        LANGUAGE,
        f"--tokens tokens/tokens.json --spec {LANGUAGE.to_json()} --checkpoints c --weights seed-1/weights.safetensors",
    ),
    "evaluate-language": (
        LANGUAGE,
        "--weights language/seed-1/weights.safetensors --tokens tokens/tokens.json --loss o.parquet --measures m.parquet"
        ' --settings {"sequences":2,"repeated":2}',
    ),
    "language-attention": (
        LANGUAGE,
        "--weights language/seed-1/weights.safetensors --tokens tokens/tokens.json --out o.parquet --copies c.parquet"
        ' --settings {"maps":2,"map_length":4}',
    ),
    "evaluate-lsq": (None, "--sequences linear.parquet --out o.parquet"),
    # its record quotes the equations of layers, as their files say them
    "collect": (MINIATURE, CHAIN["collect"]),
    "draw": (None, CHAIN["draw"]),
    "judge": (None, f"--project {ROOT} --tables {ROOT}/results/recorded/tables --scale paper --out o.parquet"),
    "spread": (None, f"--tables {ROOT}/results/recorded/tables --figures v2/fig4 --out o.parquet"),
}
#: not called here: `train` is in test_dependence.py; the others make no result, or words and pictures of one
ELSEWHERE = {"train", "where", "record", "release", "orphans", "environment", "compare", "fetch"}
ELSEWHERE |= {
    "sweep-table",
    "draw-sweep",
    "draw-agreement",
    "agreement-page",
    "page-html",
    "captions",
    "compare-curves",
    "overlay",
    "browse",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what stages read: trainings of a few steps, sequences, learned parameters, a figure's table."""
    folder = tmp_path_factory.mktemp("inputs")
    options = Options(folder / "checkpoints", backend="torch", progress="none")
    for name, run in RUNS.items():
        train(run, {1: folder / name / "seed-1"}, options)
    train(MINIATURE, {1: folder / SEED}, options)
    (folder / "text").mkdir()
    (folder / "text/a.jsonl").write_text("".join(f'{{"text": "document {number}"}}\n' for number in range(30)))
    with chdir(folder):
        tokenise_stage(TEXT, Path("tokens/tokens.json"), {})
        train_language(
            LANGUAGE, 1, Path("tokens/tokens.json"), Path("language/seed-1"), LanguageOptions(Path("c"), progress="none")
        )
    for task in (TASK, NONLINEAR, PAIRS):
        write_sequences(task, 1, COUNTS, folder / f"{task.name}.parquet", folder / f"{task.name}-systems.parquet")
    learn_stage(CHEBYSHEV, 1, folder / "parameters.parquet")
    with chdir(folder):
        for name in ("extract", "collect"):
            assert main([name, *CHAIN[name]]) == 0
        for name, made, called in (
            ("tune-prompts", "t.parquet", "tokens.parquet"),
            ("distil", "l.safetensors", "linear.safetensors"),
        ):
            assert main([name, *CALLS[name][1].split()]) == 0
            Path(made).rename(called)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator["subprocess.Popen[str]"]:
    variables = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-P", bare_stages.__file__]
    with subprocess.Popen(line, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.stdin.close()


def called(server: "subprocess.Popen[str]", sources: Path, folder: Path, words: list[str]) -> str:
    print(json.dumps({"sources": str(sources), "folder": str(folder), "words": words}), file=server.stdin, flush=True)
    return json.loads(server.stdout.readline())


def bare(folder: Path, name: str, without: str = "") -> tuple[Path, list[str]]:
    """The package that a stage depends on, less the module `without`, and the command line of `CALLS`; settings lie beside it."""
    (folder.parent / "config").symlink_to(ROOT / "config")
    entry, (spec, words) = stage(name), CALLS[name]
    words_of_both = (*entry.words, *(spec.modules() if spec else ()))
    modules = modules_behind(entry.code, words_of_both) | {entry.module, entry.module.rpartition(".")[0]}
    return stripped(folder, modules - {without}), [name, *(words if isinstance(words, list) else words.split())]


@pytest.mark.parametrize("name", CALLS)
def test_a_stage_needs_nothing_but_what_it_depends_on(
    inputs: Path, server: "subprocess.Popen[str]", tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(inputs, tmp_path / "here")
    sources, words = bare(tmp_path / "src", name)
    assert not (sources / "mesaopt/recording").exists(), "no stage of these needs it"
    before = {path for path in folder.rglob("*") if path.is_file()}
    assert called(server, sources, folder, words) == ""
    assert name in ("collect", "draw") or {path for path in folder.rglob("*") if path.is_file()} > before


def test_one_module_less_is_found(inputs: Path, server: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """The word of the task, which no import names."""
    sources, words = bare(tmp_path / "src", "evaluate", without="mesaopt.data.tasks.linear")
    assert "mesaopt" in called(server, sources, inputs, words)


def test_every_stage_is_called_or_said_not_to_be() -> None:
    assert not CALLS.keys() & ELSEWHERE and CALLS.keys() | ELSEWHERE <= {entry.name for entry in STAGES}
    others = {entry.name for entry in STAGES} - CALLS.keys() - ELSEWHERE
    assert all(stage(name).of == "run" for name in others), "an analysis of one's own"
