"""Wrong configurations and files, given to Snakemake: one clear line, exit status not 0, nothing overwritten."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from workflow_folder import environment, snakemake

from mesaopt.store.digests import forget_digest

TARGET = "results/smoke/tables/fig13.parquet"

#: what is typed after `--config scale=smoke`, and what the one line must say
CONFIGURATIONS = {
    "misspelt key": (["scael=smoke"], "config: unknown key 'scael': did you mean 'scale'?"),
    "unknown scale": (["scale=papr"], "'papr' is not one of paper, gpu, laptop, smoke, recorded"),
    "no seeds": (["seeds=[]"], "config: seeds:"),
    "a seed twice": (["seeds=[1,1]"], "config: seeds:"),
    "negative seed": (["seeds=[-1]"], "config: seeds:"),
    "seeds that are text": (["seeds=one"], "config: seeds:"),
    "unknown format": (["formats=[jpg]"], "'jpg' is not one of pdf, png, svg"),
    "unknown run": (["runs={linear/lsa-d9: {training: {lr: 1}}}"], "unknown name 'linear/lsa-d9': did you mean"),
    "misspelt part": (["runs={linear/lsa-d6: {trainning: {lr: 1}}}"], "unknown key 'trainning': did you mean 'training'?"),
    "misspelt setting": (["runs={linear/lsa-d6: {training: {stepss: 10}}}"], "unknown key 'stepss'"),
    "negative steps": (["runs={linear/lsa-d6: {training: {steps: -5}}}"], "steps must be at least 1, not -5"),
    "no heads": (["runs={linear/lsa-d6: {model: {n_heads: 0}}}"], "n_heads must be at least 1, not 0"),
    "fractional steps": (["runs={linear/lsa-d6: {training: {steps: 1.5}}}"], "steps must be int, not 1.5"),
    "text for a number": (["runs={linear/lsa-d6: {training: {lr: fast}}}"], "lr must be float, not 'fast'"),
    "unknown layer": (["runs={linear/lsa-d1: {model: {layers: [quadratic]}}}"], "unknown layer 'quadratic'"),
    "width that does not fit": (["runs={linear/lsa-d1: {model: {d_model: 30}}}"], "4 n_obs = 40 channels, d_model is 30"),
    "unknown style": (["style={bnad: false}"], "style: unknown option 'bnad': did you mean 'band'?"),
    "empty pack": (["pack=0"], "config: pack:"),
    "unknown device": (["device=tpu"], "'tpu' is not one of auto, cpu, cuda"),
}

#: (file, text in it, replacement, what the one line must say)
FILES = {
    "observed exceeds hidden": ("experiments", "linear: {n_state: 10,", "linear: {n_state: 5,", "n_obs 10 exceeds n_state 5"),
    "unknown task": ("experiments", "task: linear\n    model", "task: liner\n    model", "'liner': did you mean 'linear'?"),
    "not YAML": ("experiments", "tasks:\n", "tasks: [\n", "not valid YAML"),
    "pattern without match": ("scales", '"*/lsa-d1":', '"*/lsa-1":', "unknown name '*/lsa-1'"),
}


@pytest.fixture(scope="module")
def built(smoke_figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(smoke_figures, tmp_path_factory.mktemp("built") / "clone", symlinks=True)
    snakemake(folder, TARGET, "results/smoke/runs/linear/lsa-d1-weights/seed-1/loss.parquet", "--config", "scale=smoke")
    return folder


@pytest.fixture
def clone(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "clone", symlinks=True)


def content(folder: Path) -> dict[str, str]:
    files = [path for path in (folder / "results").rglob("*") if path.is_file() and "logs" not in path.parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def the_one_line(output: str) -> str:
    assert "Traceback" not in output, output
    lines = {line.strip() for line in output.splitlines() if "mesaopt: error:" in line}
    assert len(lines) == 1, output
    return lines.pop()


def refused(folder: Path, *arguments: str) -> str:
    """The line that a failing `snakemake ARGUMENTS` prints; it must leave every result as it was."""
    before = content(folder)
    line = the_one_line(snakemake(folder, *arguments, succeed=False))
    assert content(folder) == before
    return line


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_wrong_configurations(built: Path, case: str) -> None:
    arguments, expected = CONFIGURATIONS[case]
    scale = [] if any(argument.startswith("scale=") for argument in arguments) else ["scale=smoke"]
    assert expected in refused(built, TARGET, "--config", *scale, *arguments)


@pytest.mark.parametrize(
    ("target", "settings", "expected"),
    [
        (
            "runs/linear/lsa-d6/seed-1/probes.parquet",
            "probe: {linear/lsa-d6: {preconditioner: propositon2}}",
            "preconditioner of linear/lsa-d6: unknown theory entry 'linear/propositon2': did you mean 'linear/proposition2'?",
        ),
        (
            "runs/linear/full-mesa/seed-1/token_probes.parquet",
            "token-probes: {linear/full-mesa: {layer: 9}}",
            "analyses: token-probes: linear/full-mesa: token probes of layer 9: the model has 2",
        ),
    ],
)
def test_settings_of_analyses_that_do_not_fit_the_run(built: Path, target: str, settings: str, expected: str) -> None:
    assert expected in refused(built, f"results/smoke/{target}", "--config", "scale=smoke", f"analyses={{{settings}}}")


@pytest.mark.parametrize("case", FILES)
def test_wrong_settings_files(clone: Path, case: str) -> None:
    name, old, new, expected = FILES[case]
    path = clone / "config" / f"{name}.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert expected in refused(clone, TARGET, "--config", f"scale={'laptop' if name == 'scales' else 'smoke'}")


def test_missing_settings_file(clone: Path) -> None:
    (clone / "config/experiments.yaml").unlink()
    assert "experiments.yaml: cannot be read" in refused(clone, TARGET, "--config", "scale=smoke")


@pytest.mark.parametrize("target", ["figures/fig99.pdf", "figures/fig3.jpg", "results/laptop/figures/figg3.pdf"])
def test_targets_that_do_not_exist(built: Path, target: str) -> None:
    line = refused(built, target, "--config", "scale=smoke")
    assert target in line
    assert "fig13" in line or "pdf, png, svg" in line


@pytest.mark.parametrize(
    "target", ["results/smoke/runs/linear/lsa-d99/seed-1/loss.parquet", "results/smoke/runs/../../../x.parquet"]
)
def test_targets_outside_the_plan_or_the_folder(built: Path, target: str) -> None:
    before = content(built)
    output = snakemake(built, target, "--config", "scale=smoke", succeed=False)
    assert "No rule to produce" in output
    assert "Traceback" not in output
    assert content(built) == before


def stage(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mesaopt", *map(str, arguments)]
    return subprocess.run(command, env=environment() | {"PYTHONPATH": "src"}, text=True, capture_output=True, timeout=120)


def damage(path: Path, how: str) -> None:
    """A file from elsewhere, without the digest that would tell at once (that: test_digests)."""
    forget_digest(path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif how == "flipped":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(bytes(data))
    elif how == "missing":
        path.unlink()
    else:
        frame = pq.read_table(path).to_pandas()
        if how == "another table":
            frame = frame.rename(columns={frame.columns[-1]: "surprise"})
        else:
            frame.loc[3, frame.columns[-1]] = float("nan")
        frame.to_parquet(path)


@pytest.mark.parametrize("how", ["truncated", "missing", "another table", "with NaN"])
def test_damaged_tables_are_refused(clone: Path, how: str) -> None:
    results = clone / "results/smoke"
    sequences = results / "data/linear/seed-1.parquet"
    damage(sequences, how)
    before = content(clone)
    weights = results / "runs/linear/lsa-d1-weights/seed-1/weights.safetensors"
    done = stage(
        "evaluate", "--weights", weights, "--sequences", sequences, "--name", "LSA-1", "--out", weights.parent / "loss.parquet"
    )
    assert done.returncode == 1
    assert "seed-1.parquet" in the_one_line(done.stderr)
    assert content(clone) == before


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_damaged_weights_are_refused(clone: Path, how: str) -> None:
    weights = clone / "results/smoke/runs/linear/lsa-d1-weights/seed-1/weights.safetensors"
    damage(weights, how)
    before = content(clone)
    done = stage(
        "extract",
        "--weights",
        weights,
        "--out",
        weights.parent / "weights.parquet",
        "--structure",
        weights.parent / "structure.parquet",
    )
    assert done.returncode == 1
    assert "weights.safetensors" in the_one_line(done.stderr)
    assert content(clone) == before


def test_a_damaged_table_is_named_and_made_again(clone: Path) -> None:
    table = clone / TARGET
    before = table.read_bytes()
    damage(table, "truncated")
    output = snakemake(clone, "results/smoke/figures/fig13.png", "--config", "scale=smoke")
    assert "results/smoke/tables/fig13.parquet is not what its record tells of" in output
    assert table.read_bytes() == before


def test_a_diverging_run_names_step_and_seed_and_keeps_its_history(clone: Path) -> None:
    setting = "runs={linear/lsa-d2: {training: {lr: 1e6, steps: 40}}}"
    output = snakemake(
        clone,
        "results/smoke/runs/linear/lsa-d2/seed-11/history.parquet",
        "--config",
        "scale=smoke",
        setting,
        "--retries",
        "2",
        succeed=False,
    )
    line = the_one_line(output)
    assert "linear/lsa-d2" in line
    assert "seed 11" in line
    assert "step" in line
    history = list((clone / "results/smoke/checkpoints").rglob("history.parquet"))
    assert len(history) == 1
    assert not pd.read_parquet(history[0]).empty
