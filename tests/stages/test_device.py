"""Analyses where a GPU is asked for: nothing is mixed up between it and the CPU, and results come back."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from stage_files import sequences, trained
from tiny_runs import NEEDS_GPU
from workflow_folder import copy_workflow, snakemake

from mesaopt.errors import InputError
from mesaopt.spec.analysis import Attention, Evaluate, Tokens
from mesaopt.stages.attention import attention_stage
from mesaopt.stages.evaluate import evaluate_run
from mesaopt.stages.token_probes import token_probes_stage
from mesaopt.store.tables import read_parquet

HELPER = Path(__file__).parents[1] / "helpers/elsewhere.py"


def test_every_analysis_follows_its_sequences_and_comes_back() -> None:
    """On a stand-in for a device, whose tensors have no content."""
    done = subprocess.run([sys.executable, HELPER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, mixture = done.stdout.splitlines()
    assert len(lines) == 12 and {line.rpartition(" ")[2] for line in lines} == {"cpu", "DataFrame"}
    assert (
        mixture
        == "a mixture: Expected all tensors to be on the same device, but found at least two devices, cpu and elsewhere:0!"
    )


def tables(folder: Path, device: str) -> dict[str, pd.DataFrame]:
    weights, data = trained(folder, "softmax"), sequences(folder)
    out = {name: folder / f"{device}-{name}.parquet" for name in ("attention", "lags", "loss", "tokens")}
    attention_stage(weights, data, out["attention"], out["lags"], True, Attention(), device)
    evaluate_run(weights, data, "a", out["loss"], Evaluate(test_batches=1, test_batch=8), device)
    token_probes_stage(weights, data, out["tokens"], True, Tokens(tokens=4, test_batches=1), device)
    return {name: read_parquet(path) for name, path in out.items()}


@NEEDS_GPU
def test_a_gpu_gives_the_tables_of_a_cpu(tmp_path: Path) -> None:
    """Within 1e-4 of each column's largest value."""
    cpu, cuda = (tables(tmp_path, device) for device in ("cpu", "cuda"))
    for name, frame in cpu.items():
        numbers = frame.select_dtypes("number")
        scale = numbers.abs().max().clip(lower=1e-12)
        assert ((numbers - cuda[name][numbers.columns]).abs() <= 1e-4 * scale).all(axis=None), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--device cuda: no GPU that this PyTorch can use; take cpu or auto"):
        tables(tmp_path, "cuda")
    tables(tmp_path, "auto")


def test_the_workflow_hands_the_device_on(tmp_path: Path) -> None:
    folder = copy_workflow(tmp_path / "clone")
    plan = ("-n", "-p", "results/smoke/tables/fig3.parquet", "--config", "scale=smoke", "seeds=[1]")
    assert "--device cuda" not in snakemake(folder, *plan)
    said = snakemake(folder, *plan, "analysis_device=cuda")
    commands = [line for line in said.splitlines() if "python -P -m mesaopt" in line]
    parts = [part for line in commands for part in line.partition("python -P -m mesaopt ")[2].split(" then ")]
    for stage in ("learn", "evaluate", "evaluate-theory", "probe", "interpolate"):
        of_stage = [part for part in parts if part.startswith(f"{stage} ")]
        assert of_stage and all("--device cuda" in part for part in of_stage), stage
    assert all("--device auto" in line for line in commands if "mesaopt train " in line)
