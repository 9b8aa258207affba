"""No job uses more threads than it was given, whatever its environment asks for; none loads PyTorch without computing anything.

A `sitecustomize` in every process of a stage writes down, as the process ends, how many threads it has (pools live that long) and
how many its libraries would start.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from figure_inputs import write_results
from stage_files import TASK, run, sequences, trained

from mesaopt import __file__ as package
from mesaopt.spec import Theory
from mesaopt.threads import EXCEPTIONS, VARIABLES

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
    trainers = [facts for facts in processes if "mesaopt.pack" in facts["arguments"]]
    assert len(trainers) == 3 and all("torch" in facts for facts in trainers)
    assert at_once(trainers) <= 2
    assert ["torch" in facts for facts in processes if facts not in trainers] == [False]  # the one that waits
    assert [counts(facts) for facts in processes] == [{1}] * 4


def test_every_other_stage_has_one_thread(tmp_path):
    weights, data, theory = trained(tmp_path / "run", "linear"), sequences(tmp_path), tmp_path / "theory.json"
    theory.write_text(Theory("linear/p", TASK, "chebyshev", steps=3, lr=0.01, batch=8, n_steps=2, warmup=1).to_json())
    results = write_results(tmp_path, seeds=(1,), only="fig2")
    read, learned, out = ["--weights", weights, "--sequences", data], tmp_path / "learned.parquet", ["--out", "a.parquet"]
    of_theory, made = ["--parameters", learned], ["--table", "fig2.parquet", "--provenance", "fig2.json"]
    commands = {
        "data": ["--task", TASK.to_json(), "--seed", 1, "--counts", "evaluation=4", "--sequences", "a.parquet", "--systems", "b"],
        "learn": ["--spec", theory, "--seed", 1, "--out", learned],
        "evaluate": [*read, "--name", "LSA-2", *out],
        "evaluate-theory": ["--spec", theory, *of_theory, "--sequences", data, "--name", "P", *out],
        "evaluate-lsq": ["--sequences", data, *out],
        "extract": ["--weights", weights, *out, "--structure", "b.parquet"],
        "probe": [*read, "--theory", theory, *of_theory, "--probes", "a.parquet"],
        "collect": ["--figure", "fig2", "--results", results, "--seeds", 1, "--out", "fig2.parquet", "--provenance", "fig2.json"],
        "draw": ["--figure", "fig2", *made, "--out", "fig2.pdf"],
    }
    found = {stage: reports(tmp_path, "-m", "mesaopt", stage, *arguments) for stage, arguments in commands.items()}
    assert {stage: list(map(counts, processes)) for stage, processes in found.items()} == {stage: [{1}] for stage in commands}
    without_torch = {stage for stage, processes in found.items() if "torch" not in processes[0]}
    assert without_torch == {"collect", "draw"}  # which have nothing to compute
