"""The n-th thing that a stage writes fails, for any n: a miniature chain without Snakemake, a fork per fault.

`python write_faults.py FOLDER` computes the chain in FOLDER; then each line of its input, the JSON of a `Case`, is tried: the
stage runs in a copy of what lay there before it, its n-th step on the disk fails, it runs again without fault. What was wrong is
answered.
"""

import errno
import importlib
import json
import os
import resource
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KINDS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "no more bytes": 0}
#: what the audit hook is told of, beside files that are opened to be written
EVENTS = ("os.rename", "os.mkdir", "os.chmod", "os.truncate")
#: in other languages than Python, which tell no audit hook
WRITERS = (("os", "write"), ("os", "fsync"), ("pyarrow.parquet", "write_table"), ("mesaopt.models.weights", "save_file"))
MODULES = ("stages.data", "stages.train", "training.loop", "stages.evaluate", "stages.extract", "figures.draw", "figures.collect")

TASK = {"kind": "linear", "n_state": 3, "n_obs": 3, "context_length": 8}
RUN = {
    "name": "linear/lsa-d1-weights",
    "task": {"name": "linear", **TASK},
    "model": {
        "layers": ["linear"],
        "tokens": "constructed_bare",
        "d_model": 12,
        "n_heads": 2,
        "d_head": 5,
        "init_std": 0.2,
        "clip": 4.0,
    },
    "training": {"lr": 1e-3, "steps": 4, "batch": 4, "test_every": 2, "test_batches": 1, "test_batch": 4},
}
SEED = f"results/tiny/runs/{RUN['name']}/seed-1"
DATA, FIGURE, RECORD = "results/tiny/data", "results/tiny/tables/fig13.parquet", "results/tiny/records/fig13.json"
LOOKS = json.dumps({RUN["name"]: {"family": "linear", "label": "LSA-1"}})
CHAIN = {
    "data": [
        "--seed",
        "1",
        "--counts",
        "evaluation=4",
        "--task",
        json.dumps(RUN["task"]),
        "--sequences",
        f"{DATA}/seed-1.parquet",
        "--systems",
        f"{DATA}/systems.parquet",
    ],
    "train": [
        "--spec",
        json.dumps(RUN),
        "--weights",
        f"{SEED}/weights.safetensors",
        "--checkpoints",
        "checkpoints",
        "--backend",
        "torch",
        "--checkpoint-every",
        "0",
    ],
    "evaluate": [
        "--weights",
        f"{SEED}/weights.safetensors",
        "--sequences",
        f"{DATA}/seed-1.parquet",
        "--name",
        "LSA-1",
        "--out",
        f"{SEED}/loss.parquet",
    ],
    "extract": [
        "--weights",
        f"{SEED}/weights.safetensors",
        "--out",
        f"{SEED}/weights.parquet",
        "--structure",
        f"{SEED}/structure.parquet",
    ],
    "collect": [
        "--figure",
        "fig13",
        "--results",
        "results/tiny",
        "--seeds",
        "1",
        "--looks",
        LOOKS,
        "--out",
        FIGURE,
        "--provenance",
        RECORD,
    ],
    "draw": [
        "--figure",
        "fig13",
        "--table",
        FIGURE,
        "--provenance",
        RECORD,
        "--out",
        "results/tiny/figures/fig13.pdf",
    ],
}


@dataclass(frozen=True)
class Case:
    stage: str
    number: int
    kind: str


class Disk:
    """Counts the steps that this process takes on files below `folder`; the one of `case` fails.

    With the kind `no more bytes` it succeeds, but from then on the kernel refuses every byte of every file.
    """

    def __init__(self, folder: Path, case: Case | None) -> None:
        self.folder, self.case, self.steps = str(folder), case, 0
        sys.addaudithook(self._hear)
        for module, name in WRITERS:
            self._wrap(importlib.import_module(module), name)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (opened or event in EVENTS) and os.path.abspath(str(arguments[0])).startswith(self.folder):
            self._step(str(arguments[0]))

    def _wrap(self, module: Any, name: str) -> None:
        real = getattr(module, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self._step(name)
            return real(*arguments, **options)

        setattr(module, name, counted)

    def _step(self, what: str) -> None:
        self.steps += 1
        if self.case is not None and self.steps == self.case.number:
            number = KINDS[self.case.kind]
            if number:
                raise OSError(number, os.strerror(number), what)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def in_fork(work: Callable[[], tuple[int, int]]) -> tuple[int, int, str]:
    """Exit status of `work` in a process of its own, the steps that it counted, and what it said on standard error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 2)
        os.close(reader)
        status, steps = 99, 0
        try:
            status, steps = work()
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os.writev(2, [f"\0{steps}".encode()])
        os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said, _, steps = pipe.read().decode().rpartition("\0")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(steps), said


def run(folder: Path, stage: str, case: Case | None) -> tuple[int, int, str]:
    def work() -> tuple[int, int]:
        from mesaopt.__main__ import main

        os.chdir(folder)
        disk = Disk(folder, case)
        return main([stage, *CHAIN[stage]]), disk.steps

    return in_fork(work)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`; of JSON, which has times, the name alone."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): b"" if path.suffix == ".json" else path.read_bytes() for path in files}


def attempt(folder: Path, case: Case) -> dict[str, Any]:
    """What was wrong after the fault and after the same again without: nothing, where all is as it should be."""
    before, after, here = folder / f"before-{case.stage}", content(folder / f"after-{case.stage}"), folder / "here"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(before, here)
    status, _, said = run(here, case.stage, case)
    wrong = []
    if status == 0 and content(here) != after:
        wrong.append("exit status 0 and other results")
    *progress, last = said.splitlines() or [""]
    if status != 0 and (
        status != 1 or not last.startswith("mesaopt: error: ") or any(" seed 1: " not in line for line in progress)
    ):
        wrong.append(f"exit status {status} and not one line: {said}")
    results = {name: value for name, value in content(here).items() if not Path(name).name.startswith(".")}
    wrong += [f"half of {name}" for name, value in results.items() if name.startswith("results") and value != after.get(name)]
    again, _, said = run(here, case.stage, None)
    found = content(here)
    if again != 0 or found != after:
        differ = sorted(name for name in found | after if found.get(name) != after.get(name))
        wrong.append(f"the same again: exit status {again}, different: {differ} {said}")
    return {"case": asdict(case), "failed": status != 0, "wrong": wrong}


def train_in_this_process() -> None:
    """A stage's own processes would know nothing of the fault."""
    from mesaopt.stages import train

    train._train_processes = lambda run, folders, options, threads: train._train_here(run, folders, options)


def main(folder: Path) -> None:
    for name in MODULES:
        importlib.import_module(f"mesaopt.{name}")
    train_in_this_process()
    steps, here = {}, folder / "here"
    here.mkdir()
    for stage in CHAIN:
        shutil.copytree(here, folder / f"before-{stage}")
        status, steps[stage], said = run(here, stage, None)
        assert status == 0, said
        shutil.copytree(here, folder / f"after-{stage}")
    print(json.dumps(steps), flush=True)
    for line in sys.stdin:
        print(json.dumps(attempt(folder, Case(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
