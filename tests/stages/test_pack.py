"""Packs as processes: the same bits as separate seeds, through kill -9 and SIGTERM; what the command refuses."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from mesaopt.errors import InputError
from mesaopt.process.share import Share
from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.stages import train as pack
from mesaopt.stages.train import choose_device, seed_folders, train_stage
from mesaopt.training.loop import Options, train

MODEL = Model(("linear", "linear"), "constructed", 12, 2, 4, 0.2, clip=4.0)
SOURCES = Path(pack.__file__).parents[2]


def make_run(steps: int) -> Run:
    training = Training(lr=1e-3, steps=steps, batch=8, test_every=20, test_batches=2, test_batch=8, snapshot_every=50)
    return Run("tiny/pack", Task("linear", 3, 3, 6), MODEL, training)


def start(run: Run, seeds: list[int], folder: Path, threads: int = 2, every: float = 0.0) -> subprocess.Popen[str]:
    """`python -m mesaopt train`, with a checkpoint every `every` seconds."""
    weights = [str(folder / f"seed-{seed}" / "weights.safetensors") for seed in seeds]
    command = [sys.executable, "-m", "mesaopt", "train", "--spec", run.to_json(), "--weights", *weights, "--backend", "torch"]
    command += ["--checkpoints", str(folder / "checkpoints"), "--threads", str(threads), "--checkpoint-every", str(every)]
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    return subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True, env=environment)


def expected(run: Run, seeds: list[int], folder: Path) -> dict[int, bytes]:
    """Weights of each seed trained alone, in this process, without interruption."""
    options = Options(folder / "checkpoints", backend="torch", progress="none")
    for seed in seeds:
        train(run, {seed: folder / f"seed-{seed}"}, options)
    return weights(folder, seeds)


def weights(folder: Path, seeds: list[int]) -> dict[int, bytes]:
    return {seed: (folder / f"seed-{seed}" / "weights.safetensors").read_bytes() for seed in seeds}


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trainers() -> set[int]:
    """Processes of packs anywhere on this machine that train for this test."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"mesaopt.stages.train" in path.read_bytes() and b"tiny/pack" in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no parent-death signal")
def test_killed_at_random_moments_it_goes_on_to_the_same_bits(tmp_path: Path, random: Random):
    """kill -9 of the waiting process takes its trainers with it; SIGTERM saves; the next call goes on."""
    # so many steps that no seed is through before the other has saved, on a busy machine neither
    run, seeds = make_run(1000), [1, 11]
    whole = expected(run, seeds, tmp_path / "whole")
    checkpoints = [tmp_path / f"parts/checkpoints/tiny/pack/seed-{seed}/checkpoint" for seed in seeds]
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start(run, seeds, tmp_path / "parts")
        before = [path.stat().st_mtime_ns if path.exists() else 0 for path in checkpoints]
        wait_for(
            lambda before=before: all(p.exists() and p.stat().st_mtime_ns > b for p, b in zip(checkpoints, before, strict=True)),
            process,
        )
        time.sleep(random.random() * 0.1)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == (-9 if number == signal.SIGKILL else 143)
        wait_for(lambda: not trainers(), process)
        assert not list((tmp_path / "parts").glob("seed-*/weights.safetensors"))
    process = start(run, seeds, tmp_path / "parts", threads=1, every=20.0)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 0, error
    assert re.findall(r"seed (\d+): goes on at step [1-9]", error) == ["1", "11"], error
    assert weights(tmp_path / "parts", seeds) == whole
    for name in ("history.parquet", "snapshots.safetensors", "spec.json"):
        assert (tmp_path / f"parts/seed-11/{name}").read_bytes() == (tmp_path / f"whole/seed-11/{name}").read_bytes()
    assert not list((tmp_path / "parts/checkpoints").rglob("checkpoint"))


def arguments(tmp_path: Path, **changes: object) -> dict[str, object]:
    values = {
        "spec": make_run(3),
        "weights": [tmp_path / "seed-1" / "weights.safetensors"],
        "checkpoints": tmp_path / "checkpoints",
        "threads": 1,
        "device": "cpu",
        "backend": "torch",
        "checkpoint_every": 20.0,
    }
    return values | changes


class FakeProcess:
    """A trainer that ends at once (status 0, 1 or -9) or runs until it is told to stop (None)."""

    def __init__(self, status: int | None) -> None:
        self.returncode = status

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.returncode = 143 if self.returncode is None else self.returncode

    def wait(self) -> None:
        assert self.returncode is not None


def run_fake_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statuses: dict[int, int | None]) -> dict[int, FakeProcess]:
    started: dict[int, FakeProcess] = {}

    def fake_start(run: Run, folders: dict[int, Path], *rest: object, **more: object) -> FakeProcess:
        (seed,) = folders
        home = tmp_path / f"checkpoints/tiny/pack/seed-{seed}"
        home.mkdir(parents=True)
        (home / "checkpoint").write_text("")
        return started.setdefault(seed, FakeProcess(statuses[seed]))

    monkeypatch.setattr(pack, "_start", fake_start)
    paths = [tmp_path / f"seed-{seed}" / "weights.safetensors" for seed in statuses]
    train_stage(**arguments(tmp_path, weights=paths, threads=2))
    return started


@pytest.mark.usefixtures("kernels")
def test_a_seed_on_two_cores_ends_with_the_bits_of_one(tmp_path: Path):
    run = replace(make_run(20), training=replace(make_run(20).training, batch=40))
    for threads in (1, 2):
        paths = [tmp_path / str(threads) / "seed-1" / "weights.safetensors"]
        train_stage(**arguments(tmp_path, spec=run, weights=paths, threads=threads, backend="native"))
    assert weights(tmp_path / "1", [1]) == weights(tmp_path / "2", [1])


class SlowProcess(FakeProcess):
    """A trainer that ends when it has been looked at so many times; keeps the threads that it had each time."""

    def __init__(self, looks: int, share: Share) -> None:
        super().__init__(None)
        self.looks, self.share, self.threads = looks, share, []

    def poll(self) -> int | None:
        self.threads.append(self.share.threads())
        self.returncode = 0 if len(self.threads) == self.looks else None
        return self.returncode


def test_the_last_seed_of_a_pack_gets_the_cores_of_those_that_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started: dict[int, SlowProcess] = {}
    looks = {1: 1, 11: 3, 111: 5}

    def fake_start(run: Run, folders: dict[int, Path], options: object, share: Share, draws: bool) -> FakeProcess:
        (seed,) = folders
        return started.setdefault(seed, SlowProcess(looks[seed], share))

    monkeypatch.setattr(pack, "_start", fake_start)
    paths = [tmp_path / f"seed-{seed}" / "weights.safetensors" for seed in looks]
    train_stage(**arguments(tmp_path, weights=paths, threads=2))
    assert {seed: process.threads for seed, process in started.items()} == {1: [1], 11: [1, 1, 1], 111: [1, 1, 2, 2, 2]}


def test_checkpoints_of_a_pack_go_when_all_have_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert list(run_fake_pack(tmp_path, monkeypatch, {1: 0, 11: 0, 111: 0})) == [1, 11, 111]
    assert not list((tmp_path / "checkpoints").rglob("seed-*"))


@pytest.mark.parametrize(("status", "error"), [(1, SystemExit), (-9, InputError)])
def test_a_failure_stops_the_others_and_keeps_their_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, error: type[BaseException]
):
    with pytest.raises(error) as raised:
        run_fake_pack(tmp_path, monkeypatch, {1: None, 11: status, 111: 0})
    assert status != 1 or raised.value.code == 1
    assert status != -9 or re.search("tiny/pack seed 11: its process was ended by SIGKILL", str(raised.value))
    kept = sorted(path.parent.name for path in (tmp_path / "checkpoints").rglob("checkpoint"))
    assert kept == ["seed-1", "seed-11"]  # 111 was never started


def test_memory_is_suspected_where_a_process_was_killed_alone():
    for name, guess in (("SIGKILL", r" \(out of memory\?\)"), ("SIGBUS", r" \(a full disk, .*\)"), ("SIGSEGV", "")):
        with pytest.raises(InputError, match=f"seed 11: its process was ended by {name}{guess}; run again to go on"):
            pack._require_success(make_run(1), 11, -getattr(signal, name))


def test_a_failing_process_says_why_in_one_line(tmp_path: Path):
    """Through the whole command: its one line comes from the process of the seed."""
    (tmp_path / "seed-1").write_text("not a folder")
    process = start(make_run(2), [1], tmp_path)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    lines = [line for line in error.splitlines() if "tiny/pack seed 1: " not in line]
    assert len(lines) == 1
    assert lines[0].startswith("mesaopt: error: ") and "cannot be written" in lines[0]


@pytest.mark.parametrize(
    "path", ["seed-1/model.safetensors", "seed-x/weights.safetensors", "1/weights.safetensors", "seed--1/weights.safetensors"]
)
def test_paths_without_a_seed_are_refused(path: str):
    with pytest.raises(InputError, match=r"must end in seed-N/weights\.safetensors"):
        seed_folders([Path(path)])


def test_seeds_come_from_folder_names():
    paths = [Path("a/seed-1/weights.safetensors"), Path("a/seed-11111/weights.safetensors")]
    assert seed_folders(paths) == {1: Path("a/seed-1"), 11111: Path("a/seed-11111")}
    with pytest.raises(InputError, match="seed 1 is given twice"):
        seed_folders([paths[0], Path("b/seed-1/weights.safetensors")])


@pytest.mark.parametrize("change", [{"threads": 0}, {"checkpoint_every": -1.0}])
def test_wrong_arguments_are_refused(tmp_path: Path, change: dict[str, object]):
    with pytest.raises(InputError):
        train_stage(**arguments(tmp_path, **change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_kernel_for_gpus_is_not_replaced_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=f"backend cuda computes on a GPU, --device {device} is a CPU here; choose backend auto"):
        train_stage(**arguments(tmp_path, backend="cuda", device=device))
    assert not list(tmp_path.iterdir())


def test_the_device_is_one_that_is_there(monkeypatch: pytest.MonkeyPatch):
    assert choose_device("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("cuda") == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(InputError, match="--device cuda: no GPU"):
        choose_device("cuda")
