"""What `make bench` compares is the same training: the naive loop and JAX compute what the project's model computes."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import fitting_speed  # noqa: E402
import gpu_busy  # noqa: E402
import gpu_check  # noqa: E402
import growth  # noqa: E402
import hour  # noqa: E402
from models import NAMES, make_run, operations  # noqa: E402
from naive_training import NaiveModel, naive_loss  # noqa: E402
from speed_figure import draw  # noqa: E402
from speed_table import gpu_table, replace_table, speed_table  # noqa: E402
from workflow_folder import copy_workflow, planned  # noqa: E402

from mesaopt.backends.choose import TorchBackend  # noqa: E402
from mesaopt.data.sequences import generate, training_batch  # noqa: E402
from mesaopt.figures.registry import FIGURES, runs  # noqa: E402
from mesaopt.models.transformer import Transformer, initialise  # noqa: E402
from mesaopt.spec.cost import Rates  # noqa: E402
from mesaopt.spec.plan import resolve  # noqa: E402
from mesaopt.training.loop import tokens_targets  # noqa: E402
from mesaopt.workflow_settings import read_settings  # noqa: E402

JAX = BENCHMARKS.parent / "build/jax-venv/bin/python"
#: what the provenance of every measurement says
FACTS = {"cpu": "a processor", "commit": "0123456789abcdef", "finished": "2026-01-01", "rounds": 2, "seconds": 1.0}


def naive_twin(model: Transformer) -> NaiveModel:
    """The naive model with the weights of the project's."""
    naive, spec = NaiveModel(model.model, model.n_obs), model.model
    with torch.no_grad():
        for layer, ours in enumerate(model.layers):
            for head in range(spec.n_heads):
                for part, name in enumerate(("W_Q", "W_K", "W_V", "W_O")):
                    naive.weights[4 * (layer * spec.n_heads + head) + part].copy_(getattr(ours, name)[0, head])
            if ours.has_mlp:
                naive.mlp[2 * layer].copy_(ours.W_1[0])
                naive.mlp[2 * layer + 1].copy_(ours.W_2[0])
        if spec.tokens == "raw":
            naive.embedding.copy_(model.embedding[0])
            naive.unembedding.copy_(model.unembedding[0])
    return naive


@pytest.mark.parametrize("name", NAMES)
def test_the_naive_loop_has_the_same_loss_and_gradients(name):
    """Norm-relative 1e-5 in float32, with weights that make every layer count."""
    run = make_run(name, batch=4)
    model = initialise(run.model, run.task.n_obs, [1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        for layer in model.layers:
            if "lam" in layer.own:
                layer.lam.fill_(1.0)  # where the naive model starts
    observations = training_batch(run.task, [1], 4, "train", 0)
    losses = TorchBackend().loss_and_gradients(model, *tokens_targets(run, observations))
    naive = naive_twin(model)
    loss = naive_loss(naive, observations[0])
    loss.backward()
    assert loss.item() == pytest.approx(losses.item(), rel=1e-5)
    for part, name_of in enumerate(("W_Q", "W_K", "W_V", "W_O")):
        ours = getattr(model.layers[0], name_of).grad[0, 0]
        assert (naive.weights[part].grad - ours).norm() <= 1e-5 * ours.norm(), name_of
    mlps = [matrix for layer in model.layers if layer.has_mlp for matrix in (layer.W_1, layer.W_2)]
    for found, ours in zip(naive.mlp, mlps, strict=True):
        assert (found.grad - ours.grad[0]).norm() <= 1e-5 * ours.grad[0].norm()


@pytest.mark.skipif(not JAX.exists(), reason="benchmarks/requirements-jax.txt is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_jax_has_the_same_loss_and_gradients(name, tmp_path):
    file = tmp_path / "check.npz"
    subprocess.run([sys.executable, BENCHMARKS / "worker.py", "--check", file, make_run(name).to_json()], check=True)
    found = subprocess.run([JAX, BENCHMARKS / "jax_training.py", "--check", file], check=True, capture_output=True, text=True)
    assert json.loads(found.stdout)["error"] < 1e-4


def test_operations_of_six_linear_layers():
    """By hand: 256 sequences, 6 layers, 4 heads; per head 4 products of 50 x 40 x 20 and 2 of 1275 pairs x 20; three passes."""
    assert operations(make_run("LSA-6")) == 2 * 3 * 256 * 6 * 4 * (4 * 50 * 40 * 20 + 2 * 1275 * 20)
    with pytest.raises(ValueError, match="products alone"):
        operations(make_run("Hybrid-mesa"))


def test_operations_of_complete_transformers():
    """By hand: an MLP adds 2 products of 50 x 60 x 300 to each of 7 layers."""
    heads = 12 * (4 * 50 * 80 * 20 + 2 * 1275 * 20)
    assert operations(make_run("Softmax-7-partial")) == 2 * 3 * 256 * 7 * heads
    heads = 4 * (4 * 50 * 60 * 20 + 2 * 1275 * 20)
    assert operations(make_run("Softmax-7-nonlinear")) == 2 * 3 * 256 * 7 * (heads + 2 * 50 * 60 * 300)


@pytest.mark.skipif(not JAX.exists(), reason="benchmarks/requirements-jax.txt is not installed")
@pytest.mark.parametrize("name", ["LSA-1", "Softmax-7-partial", "Softmax-7-nonlinear"])
def test_jax_draws_sequences_of_the_same_law(name):
    """The mean square by position, of 4096 sequences each, to 10 %; the nonlinear task's MLP is another one, of the same law."""
    task = make_run(name).task
    ours = generate(task, 4096, np.random.default_rng(1)).observations.square().mean((0, 2))
    code = (
        "import jax, json, sys; from jax_data import generate; from mesaopt.spec.run import Task;"
        "x = generate(Task(**json.loads(sys.argv[1])), 4096, jax.random.key(1)); print(json.dumps((x**2).mean((0, 2)).tolist()))"
    )
    environment = {"PYTHONPATH": f"{BENCHMARKS}:{BENCHMARKS.parent / 'src'}", "PATH": os.environ["PATH"]}
    found = subprocess.run(
        [JAX, "-c", code, json.dumps(asdict(task))], env=environment, check=True, capture_output=True, text=True
    ).stdout
    torch.testing.assert_close(torch.tensor(json.loads(found)), ours, rtol=0.1, atol=0)


def test_ratios_of_the_table_are_taken_within_a_round():
    speeds = {"naive": (1.0, 10.0), "native": (3.0, 40.0), "jax": (2.0, 10.0)}
    columns = {"kind": "speed", "model": "LSA-6", "processes": 2, "megabytes": 100.0, "data_share": None}
    rows = [columns | {"variant": v, "round": i, "steps_per_second": s} for v, both in speeds.items() for i, s in enumerate(both)]
    facts = {"cores": 2, "operations": {"LSA-6": 1.0}, "peak_operations_per_second": [6.0, 50.0], "load_before": 0.0}
    table = speed_table(pd.DataFrame(rows), FACTS | facts)
    assert "| LSA-6 | native, 2 processes | 21.5 (3.0 to 40.0) | 3.5 | 2.8 | 100 | - |" in table
    assert "LSA-6 65 % (50 to 80)" in table
    assert "\nBatch 256, T 50; 2 rounds" in table
    long = pd.DataFrame(rows).replace("LSA-6", "Softmax-7-few-shot")
    assert "\nBatch 256, T 50; Softmax-7-few-shot: batch 128, T 224; 2 rounds" in speed_table(
        long, FACTS | facts | {"operations": {}}
    )


def test_the_gpu_table_compares_kernel_pytorch_and_jax():
    speeds = {
        ("captured", 5): (10.0, 20.0),
        ("cuda", 5): (30.0, 50.0),
        ("philox", 5): (60.0, 80.0),
        ("jax step", 5): (5.0, 5.0),
        ("jax scan", 5): (20.0, 24.0),
        ("captured", 1): (7.0, 7.0),
    }
    rows = [
        {"model": "LSA-6", "variant": variant, "seeds": seeds, "round": number, "steps_per_second": speed, "megabytes": 100.0}
        for (variant, seeds), both in speeds.items()
        for number, speed in enumerate(both)
    ]
    gpu = {
        "cores": 4,
        "device": "a GPU",
        "torch": "2",
        "operations": {"LSA-6": 1e10},
        "peak": 1e12,
        "left_out": ["LSA-1 (jax scan)"],
    }
    table = gpu_table(pd.DataFrame(rows), FACTS | gpu)
    assert "| LSA-6 | 5 | 15 | 22 | 40 | 70 (60 to 80) | 70 % | 100 |" in table
    assert "| LSA-6 | 1 | 7 | - | - | - | - | - |" in table
    assert "a GPU, whose peak of fused multiply-adds was measured: 1.0 TFLOP/s. PyTorch 2. Batch 256" in table
    assert table.endswith("Left out for want of time: LSA-1 (jax scan).")


@pytest.mark.parametrize("mark", ["speed", "speed-large", "gpu"])
def test_the_page_on_speed_takes_a_table(mark):
    page = (BENCHMARKS.parent / "docs/speed.md").read_text()
    changed = replace_table(page, "| a | new | table |", mark)
    assert "-->\n| a | new | table |\n<!-- end" in changed
    assert changed.split(f"<!-- {mark}")[0] == page.split(f"<!-- {mark}")[0]
    assert changed.split(f"<!-- end of {mark}")[1] == page.split(f"<!-- end of {mark}")[1]


@pytest.mark.parametrize("growth", [True, False])
def test_the_figure_is_drawn_with_and_without_growth(growth, tmp_path):
    row = {"kind": "speed", "model": "LSA-6", "processes": 2, "round": 0, "megabytes": 300.0, "steps_per_second": 10.0}
    rows = [row | {"variant": variant} for variant in ("naive", "torch", "native")]
    sizes = [(sweep, value) for sweep in ("time", "depth", "n_state", "seeds") for value in (1, 2, 4)]
    grown = [row | {"kind": "growth", "variant": "torch", "sweep": sweep, "value": value} for sweep, value in sizes]
    for name in ("first.pdf", "second.pdf", "other.png"):
        draw(pd.DataFrame(rows + grown if growth else rows), "small print", tmp_path / name)
    assert (tmp_path / "first.pdf").read_bytes() == (tmp_path / "second.pdf").read_bytes()
    assert (tmp_path / "first.pdf").read_bytes().startswith(b"%PDF") and (tmp_path / "other.png").stat().st_size > 10_000


def test_growth_measures_every_point_once_in_every_round(monkeypatch):
    jobs = []
    report = {"seconds_per_step": 0.5, "data_seconds": 0.1, "megabytes": 9.0}
    monkeypatch.setattr(growth, "together", lambda command, job, environment: jobs.append(job[0]) or [report])
    rows = pd.DataFrame(growth.measure_growth({}, 1.0, rounds=2))
    points = rows.groupby(["sweep", "value", "variant"])["round"]
    assert (points.count() == 2).all() and (points.nunique() == 2).all() and rows["round"].is_monotonic_increasing
    assert set(rows["sweep"]) == {"time", "depth", "n_state", "seeds"} and (rows["steps_per_second"] == 2.0).all()
    assert [job["seeds"] for job in jobs if job["seeds"] > 1] == [2, 4, 8] * 2


def test_the_figure_measures_only_when_there_is_no_table(tmp_path):
    folder = copy_workflow(tmp_path / "clone")
    assert planned(folder, "figures/speed.pdf") == {"measure_speed": 1, "draw_speed": 1}
    (folder / "results/benchmarks").mkdir(parents=True)
    for suffix in ("parquet", "json"):
        (folder / f"results/benchmarks/speed.{suffix}").write_text("")
    assert planned(folder, "figures/speed.pdf", "--rerun-triggers", "mtime") == {"draw_speed": 1}


def test_the_peak_is_compiled_and_measured() -> None:
    """`make bench` begins with it."""
    job = [sys.executable, BENCHMARKS / "peak.py", "--job", "{}"]
    done = subprocess.run(job, input="go\n", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ready\n") and float(re.findall(r"[\d.eE+-]{3,}", done.stdout)[-1]) > 0


def test_the_hour_has_a_row_for_every_training(tmp_path: Path) -> None:
    """With what those took that were made on a GPU: each pack once."""
    settings = read_settings(hour.ROOT, {"scale": "paper"})
    plan = resolve(settings.experiments, settings.scales, settings.config, "paper")
    for seed in plan.seeds:
        facts = {"device": "A card", "pack": [seed] if seed == plan.seeds[0] else list(plan.seeds[1:]), "seconds": 4.4}
        folder = tmp_path / f"runs/linear/lsa-d6/seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps(facts))
    text = hour.table(plan, Rates.read(hour.ROOT), "H100", tmp_path)
    rows = {(run, what): rest for run, what, rest in re.findall(r"^\| `(.+?)` \| (.+?) \| (.*) \|$", text, flags=re.MULTILINE)}
    trained = {run for run, what in rows if not what.startswith("`")}
    shown = {run for name in FIGURES for run in runs(name, plan.looks)} - plan.language.runs.keys()
    assert trained == {plan.beginnings.get(run, run) for run in shown} and len(trained) > 50
    fitted = {(run, what) for run, what in rows if what.startswith("`")}
    assert {("linear-long/hybrid", "`tune-prompts`"), ("unclipped-n20-noise0p01/softmax-d7", "`distil`")} < fitted
    took = {run: rest.split(" | ")[-1] for (run, what), rest in rows.items()}
    assert took.pop("linear/lsa-d6") == "9" and set(took.values()) == {"-"}
    seeds = {run: rest.split(" | ")[1] for (run, what), rest in rows.items()}
    assert seeds["linear/lsa-d6"] == "5" and seeds["unclipped-n20-noise0p01/softmax-d2-constructed"] == "1"


#: a file of tests, and what the check of a GPU says of it
CHECKED = {
    "passes": ("", ""),
    "fails": ("assert False", "pytest ended with status 1"),
    "skips": ("pytest.skip('no compiler')", "1 skipped (tests.txt)"),
    "hangs": ("time.sleep(600)", "not finished in 8 s"),
}


@pytest.mark.parametrize("case", CHECKED)
def test_the_check_of_a_gpu_says_what_is_wrong_with_its_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """And goes on: what comes after the tests is measured all the same."""
    body, expected = CHECKED[case]
    (tmp_path / "test_stand_in.py").write_text(
        "import time, pytest\n@pytest.mark.gpu\ndef test_a_gpu():\n"
        f"    print('under way', flush=True)\n    {body or 'pass'}\n"
        "def test_without_one():\n    assert False\n@pytest.mark.gpu\ndef test_emulated():\n    assert False\n"
    )
    monkeypatch.setattr(gpu_check, "TESTS", [tmp_path / "test_stand_in.py"])
    assert gpu_check.tests(tmp_path, 8.0 if case == "hangs" else 120.0) == expected
    monkeypatch.setattr(gpu_check, "tests", lambda *_: expected)
    monkeypatch.setattr(gpu_check, "training", lambda name, way, out: {"model": name, "way": way, "test_loss": 1.0})
    called: list[list[object]] = []
    monkeypatch.setattr(gpu_check.subprocess, "run", called.append)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path / "out")])
    assert gpu_check.main() == (1 if expected else 0)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"tests {f'FAILED: {expected}' if expected else 'passed'}; losses agree"
    assert len(called) == 1 and len(json.loads((tmp_path / "out/trainings.json").read_text())) == 9


def test_a_test_on_a_gpu_is_not_skipped_for_want_of_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for a GPU on which every computation fails."""
    (tmp_path / "stand_in_gpu.py").write_text("import torch\ntorch.cuda.is_available = lambda: True\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("CXX", "no-such-compiler")
    chosen = ["-p", "stand_in_gpu", "-m", "not long", "-k", "test_unsupported_models"]
    command = [sys.executable, "-m", "pytest", *chosen, "tests/backends/test_cuda.py"]
    done = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert len(skipped) == 1 and skipped[0].startswith("SKIPPED [1]") and "THE NATIVE KERNEL IS NOT TESTED" in skipped[0]
    assert "test_unsupported_models_and_tensors_are_refused[gpu]" in done.stdout or torch.cuda.is_available()


def test_how_busy_a_gpu_is(tmp_path: Path) -> None:
    """With a stand-in for the program that is asked."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nfor u in 0 0 50 100 0 50 0 0; do echo $u; done\nexec sleep 9\n")
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, gpu_busy.__file__, "sh", "-c", "sleep 0.5; exit 3"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert done.stdout.endswith("the GPU was busy for 25% of them, 50% between its first and its last work\n"), done.stdout
    assert gpu_busy.shares([0.0, 0.0]) == (0, 0)


def test_fitting_is_measured_in_both_ways(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(fitting_speed, "FITTED", fitting_speed.FITTED[:1])
    monkeypatch.setattr(fitting_speed, "SECONDS", 0.01)
    monkeypatch.setattr(sys, "argv", ["fitting_speed.py", "--rounds", "1"])
    fitting_speed.main()
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[:2] == ["distil", "unclipped-n4-noise0p01/softmax-d7"]
    torch_ms, native_ms, times = map(float, row[2:5])
    assert times == pytest.approx(torch_ms / native_ms, rel=0.2) and native_ms > 0
