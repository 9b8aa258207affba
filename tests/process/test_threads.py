"""No job uses more threads than it was given, whatever its environment asks for; none loads PyTorch without computing anything.

A `sitecustomize` in every process of a stage writes down, as the process ends, how many threads it has (pools live that long) and
how many its libraries would start.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from figure_inputs import write_results
from stage_files import TASK, run, sequences, trained, transformer
from workflow_folder import ROOT

from mesaopt import __file__ as package
from mesaopt.models.weights import save_weights
from mesaopt.process.threads import EXCEPTIONS, VARIABLES
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.language import LanguageModel, LanguageRun, LanguageTraining
from mesaopt.spec.stages import STAGES, analyses
from mesaopt.spec.text import Text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")

GREEDY = dict.fromkeys(VARIABLES, "64") | dict.fromkeys(EXCEPTIONS, "MKL_BLAS=64")
REPORTER = """
import atexit, json, os, sys, time

started = time.time()

def report():
    names = [open(f"/proc/self/task/{thread}/comm").read().strip() for thread in os.listdir("/proc/self/task")]
    facts = {"started": started, "ended": time.time(), "arguments": sys.orig_argv, "threads": names}
    if torch := sys.modules.get("torch"):
        facts |= {"torch": torch.get_num_threads(), "parallel": torch.__config__.parallel_info()}
    facts["compiler"] = "torch._dynamo" in sys.modules
    with open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.json"), "w") as file:
        json.dump(facts, file)

atexit.register(report)
"""


def reports(folder: Path, *arguments: object) -> list[dict]:
    """What every process of `python ARGUMENTS` reported under an environment that asks for 64 threads of everything."""
    spies = folder / "spies"
    spies.mkdir(exist_ok=True)
    (spies / "sitecustomize.py").write_text(REPORTER)
    sources = str(Path(package).parents[1])
    environment = os.environ | GREEDY | {"PYTHONPATH": os.pathsep.join([str(spies), sources]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *map(str, arguments)]
    subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True)
    found = [json.loads(path.read_text()) for path in spies.glob("*.json")]
    for path in spies.glob("*.json"):
        path.unlink()
    return [facts for facts in found if facts["arguments"][0] == sys.executable]


def counts(facts: dict) -> set[int]:
    """Threads that were there (less the one of Arrow that only gives memory back), and those that libraries would start."""
    there = [name for name in facts["threads"] if name != "jemalloc_bg_thd"]
    libraries = re.findall(r"(?:get_num_threads|get_max_threads)\(\)\s*:\s*(\d+)", facts.get("parallel", ""))
    return {len(there), facts.get("torch", 1), *map(int, libraries)}


def train(folder: Path, backend: str, seeds: list[int], threads: int) -> list[dict]:
    weights = [folder / f"{backend}/seed-{seed}/weights.safetensors" for seed in seeds]
    options = ["--checkpoints", folder / "checkpoints", "--threads", threads, "--device", "cpu", "--backend", backend]
    return reports(folder, "-m", "mesaopt", "train", "--spec", run("mesa").to_json(), "--weights", *weights, *options)


def at_once(processes: list[dict]) -> int:
    """The largest number of processes alive at one time."""
    return max(sum(other["started"] <= one["started"] < other["ended"] for other in processes) for one in processes)


@pytest.mark.skipif(os.cpu_count() == 1, reason="PyTorch starts no more threads than there are cores")
def test_the_count_sees_threads_where_nothing_limits_them(tmp_path):
    (greedy,) = reports(tmp_path, "-c", "import numpy, torch; torch.ones(10**7).exp()")
    assert min(counts(greedy)) > 1


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_training_has_one_thread_a_seed_and_no_more_seeds_at_once_than_threads(tmp_path, backend):
    processes = train(tmp_path, backend, [1, 2, 3], threads=2)
    trainers = [facts for facts in processes if "mesaopt.stages.train" in facts["arguments"]]
    assert len(trainers) == 3 and all("torch" in facts for facts in trainers)
    assert at_once(trainers) <= 2
    assert ["torch" in facts for facts in processes if facts not in trainers] == [False]  # the one that waits
    assert [counts(facts) for facts in processes] == [{1}] * 4
    assert not any(facts["compiler"] for facts in processes)


#: stages that no job runs, or that need a git work tree, SLURM, published curves or the network
BY_HAND = {"begin", "compare-curves", "fetch", "orphans", "overlay", "record", "release", "where"}


#: a sweep of one point, which figure 2 needs as well
SWEEP = json.dumps(
    {"run": "linear/lsa-d1", "over": ["lr"], "panel": "test_loss", "points": {"linear/lsa-d1-second": {"lr": 0.1}}}
)


def of_sweep(table: str) -> list[object]:
    return [table, "sweep.parquet", "--provenance", "sweep.json"]


TEXT = Text("text", ("folder",), context_length=8, path="text", validation=0.3)
ON_TEXT = LanguageRun(
    "text/mesa",
    TEXT,
    LanguageModel(("softmax", "mesa"), d_model=4, n_heads=1, d_head=4, nu=1),
    LanguageTraining(tokens=32, batch=2, test_every=1, test_sequences=2),
)


def of_language(folder: Path) -> dict[str, list[object]]:
    """The same for stages of language models."""
    (folder / "text").mkdir()
    (folder / "text/a.jsonl").write_text("".join(f'{{"text": "document {number}"}}\n' for number in range(30)))
    tokens, weights = ["--tokens", "tokens/tokens.json"], ["--weights", "text/seed-1/weights.safetensors"]
    few = ["--settings", '{"sequences": 2, "repeated": 2, "maps": 2, "map_length": 4}']
    return {
        "tokenise": ["--spec", TEXT.to_json(), "--out", tokens[1]],
        "train-language": [*tokens, "--spec", ON_TEXT.to_json(), "--checkpoints", "checkpoints", *weights],
        "evaluate-language": [*tokens, *weights, *few, "--loss", "a.parquet", "--measures", "b.parquet"],
        "language-attention": [*tokens, *weights, *few, "--out", "a.parquet", "--copies", "b.parquet"],
    }


def stages_of_one_process(folder: Path) -> dict[str, list[object]]:
    """Arguments by stage, in an order in which they can run, in `folder`."""
    weights, data, theory = trained(folder / "run", "linear"), sequences(folder), folder / "theory.json"
    (folder / "fig2.rst").write_text("a caption")
    text = Theory("linear/p", TASK, "chebyshev", steps=3, lr=0.01, batch=8, n_steps=2, warmup=1)
    theory.write_text(text.to_json())
    published = ["--published-theory", replace(text, form="published").to_json(), "--published-parameters", "learned.parquet"]
    snapshots, tensors = weights.with_name("snapshots.safetensors"), transformer("linear").seed_weights(0)
    save_weights({f"step-0/{name}": tensor for name, tensor in tensors.items()}, snapshots)
    results = write_results(folder, seeds=(1,), only="fig2")
    read, learned, out = ["--weights", weights, "--sequences", data], "learned.parquet", ["--out", "a.parquet"]
    of_theory, made = ["--spec", theory, "--parameters", learned], ["--table", "fig2.parquet", "--provenance", "fig2.json"]
    judged = ["--agreement", "agreement.parquet", "--scale", "smoke"]
    return {
        "data": ["--task", TASK.to_json(), "--seed", 1, "--counts", "evaluation=4", "--sequences", "a.parquet", "--systems", "b"],
        "learn": ["--spec", theory, "--seed", 1, "--out", learned],
        "evaluate": [*read, "--name", "LSA-2", *out],
        "evaluate-theory": [*of_theory, "--sequences", data, "--seed", 1, "--name", "P", *out],
        "evaluate-lsq": ["--sequences", data, *out],
        "extract": ["--weights", weights, *out, "--structure", "b.parquet"],
        "interpolate": ["--extracted", weights, "--snapshots", snapshots, *out],
        "match": ["--first", snapshots, "--snapshots", snapshots, "--matching", "a.parquet", "--losses", "b.parquet"],
        "probe": [*read, "--theory", theory, "--parameters", learned, *published, "--probes", "a.parquet"],
        "collect": ["--figure", "fig2", "--results", results, "--seeds", 1, "--out", "fig2.parquet", "--provenance", "fig2.json"],
        "draw": ["--figure", "fig2", *made, "--out", "fig2.pdf"],
        "sweep-table": ["--sweep", SWEEP, "--results", results, "--seeds", 1, *of_sweep("--out")],
        "draw-sweep": [*of_sweep("--table"), "--out", "sweep.pdf"],
        "judge": ["--tables", folder, "--scale", "smoke", "--out", "agreement.parquet"],
        "draw-agreement": [*judged, "--out", "agreement.pdf"],
        "spread": ["--tables", folder, "--figures", "fig2", "--out", "spread.parquet"],
        "agreement-page": [*judged, "--spread", "spread.parquet", "--out", "agreement.md"],
        "captions": ["--agreement", "agreement.parquet", "--captions", folder],
        "browse": ["--results", ROOT / "results/recorded", "--scale", "recorded", "--out", "browse.html"],
        "page-html": ["--page", "agreement.md", "--out", "agreement.html"],
        "compare": ["--first", results, "--second", results],
        "environment": ["--out", "environment.parquet"],
        **of_language(folder),
    }


def test_every_other_stage_has_one_thread_and_no_library_that_it_does_not_need(tmp_path):
    """PyTorch where something is computed or its version is told; nowhere its compiler, which its own optimizers would import."""
    commands = stages_of_one_process(tmp_path)
    missing = {stage.name for stage in STAGES} - set(commands) - BY_HAND - {"train"}
    assert missing <= {stage.name for stage in analyses()}, "an analysis of one's own"
    found = {stage: reports(tmp_path, "-m", "mesaopt", stage, *arguments) for stage, arguments in commands.items()}
    assert {stage: list(map(counts, processes)) for stage, processes in found.items()} == {stage: [{1}] for stage in commands}
    without_torch = {stage for stage, (facts,) in found.items() if "torch" not in facts}
    figures = {"collect", "draw", "sweep-table", "draw-sweep", "draw-agreement", "browse"}
    assert without_torch == figures | {"tokenise", "judge", "spread", "agreement-page", "captions", "page-html", "compare"}
    assert not any(facts["compiler"] for (facts,) in found.values())
