"""Learning of hand-written algorithms goes on from its checkpoint to the same bits, also after a kill."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from mesaopt.errors import DivergenceError
from mesaopt.process.stopping import StopRequest
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.run import Task
from mesaopt.stages.learn import learn_stage
from mesaopt.training.descent import Checkpoints, Settings, descend

SOURCES = Path(__file__).parents[2] / "src"
THEORY = Theory("tiny/p", Task("linear", 3, 3, 6), "chebyshev", steps=300, lr=0.01, batch=8, n_steps=2, warmup=5)
SETTINGS = Settings(steps=20, lr=0.1, weight_decay=0.1, warmup=3, final_lr=1e-3, clip=0.5)


def quadratic(parameters: list[Parameter]):
    def loss(step: int) -> Tensor:
        target = torch.sin(torch.arange(3) + step)
        return sum((p - target).square().sum() for p in parameters)

    return loss


def test_a_descent_goes_on_to_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [Parameter(torch.ones(3)), Parameter(torch.zeros(3))]
    expected = descend(whole, quadratic(whole), SETTINGS, "it")

    def stopping(after: int):
        parts = [Parameter(torch.ones(3)), Parameter(torch.zeros(3))]
        loss = quadratic(parts)

        def stop(step: int) -> Tensor:
            if step == after:
                os.kill(os.getpid(), signal.SIGTERM)
            return loss(step)

        kept = Checkpoints(tmp_path / "checkpoint", {"of": "it"}, 1e9)
        return parts, descend(parts, stop, SETTINGS, "it", kept)

    for after in (4, 11):
        with pytest.raises(SystemExit) as left:
            stopping(after)
        assert left.value.code == 143
    parts, history = stopping(99)
    assert history == expected and all(torch.equal(*pair) for pair in zip(parts, whole, strict=True))
    assert capsys.readouterr().err.splitlines() == [f"it: goes on at step {step}" for step in (5, 12)]


def test_a_checkpoint_of_something_else_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = [Parameter(torch.ones(3))]
    kept = Checkpoints(tmp_path / "checkpoint", {"of": "it"}, 0.0)
    descend(parameters, quadratic(parameters), dataclasses.replace(SETTINGS, steps=3), "it", kept)
    others = [Parameter(torch.ones(3))]
    other = Checkpoints(tmp_path / "checkpoint", {"of": "other"}, 1e9)
    history = descend(others, quadratic(others), dataclasses.replace(SETTINGS, steps=3), "it", other)
    assert len(history) == 3 and "it belongs to another of" in capsys.readouterr().err


def test_divergence_leaves_signals_as_they_were(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    parameters = [Parameter(torch.ones(3))]
    with pytest.raises(DivergenceError, match="it: loss nan at step 0"):
        kept = Checkpoints(tmp_path / "checkpoint", {}, 1e9)
        descend(parameters, lambda step: parameters[0].sum() * torch.nan, SETTINGS, "it", kept)
    assert signal.getsignal(signal.SIGTERM) == before and not isinstance(before, StopRequest)


def test_killed_at_random_moments_the_table_is_the_same(tmp_path: Path, random: Random) -> None:
    learn_stage(THEORY, 1, tmp_path / "whole.parquet", backend="torch")
    out, checkpoints = tmp_path / "parts.parquet", tmp_path / "checkpoints"
    checkpoint = checkpoints / "theory/tiny/p/seed-1/checkpoint"
    command = [sys.executable, "-m", "mesaopt", "learn", "--spec", THEORY.to_json(), "--seed", "1", "--out", str(out)]
    command += ["--checkpoints", str(checkpoints), "--backend", "torch"]

    def start(every: float) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(SOURCES)}
        more = ["--checkpoint-every", str(every)]
        return subprocess.Popen([*command, *more], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    for number in (signal.SIGKILL, signal.SIGTERM):
        process, before = start(0.0), checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        deadline = time.monotonic() + 60
        while not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(random.random() * 0.02)
        process.send_signal(number)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == (-9 if number == signal.SIGKILL else 143), error
        assert not out.exists()
    output, error = start(20.0).communicate(timeout=120)
    assert "goes on at step" in error and "in 300 steps" in output, error
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not checkpoints.exists() or not [path for path in checkpoints.rglob("*") if path.is_file()]
