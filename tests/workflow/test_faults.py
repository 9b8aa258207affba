"""What can go wrong on one machine, on the miniature graph: each fault is seen to fire, then the same command gives the same."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from workflow_folder import command, copy_workflow, environment, planned, snakemake

FIGURE = "figures/fig13.pdf"
RUN = "results/smoke/runs/linear/lsa-d1-weights/seed-1"
SETTINGS = ("--config", "scale=smoke", "checkpoint_every=0")
SLOWER = ("--config", "scale=smoke", "checkpoint_every=0.5", "runs={linear/lsa-d1-weights: {training: {steps: 2000, batch: 64}}}")
TABLES = ("results/smoke/tables/fig13.parquet", f"{RUN}/history.parquet", f"{RUN}/weights.parquet", f"{RUN}/weights.safetensors")
mounts = pytest.mark.system("it mounts file systems")


def outcome(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(tmp_path_factory.mktemp("built") / "clone")
    snakemake(folder, FIGURE, *SETTINGS)
    return folder


@pytest.fixture
def clone(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "clone", symlinks=True)


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def redo(folder: Path) -> None:
    """Let the graph be due from the extraction on."""
    for name in ("results/smoke/tables", "results/smoke/records", "results/smoke/figures", "figures"):
        shutil.rmtree(folder / name)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


LONGER = [("weights.parquet", truncate), ("weights.safetensors", flip), ("weights.safetensors", truncate)]


@pytest.mark.parametrize(
    ("name", "damage"), [("weights.parquet", flip), *(pytest.param(*case, marks=pytest.mark.long) for case in LONGER)]
)
def test_damaged_results(clone: Path, built: Path, name: str, damage: Callable[[Path], None]) -> None:
    redo(clone)
    if name.endswith("safetensors"):
        (clone / RUN / "weights.parquet").unlink()
    damage(clone / RUN / name)
    output = snakemake(clone, FIGURE, *SETTINGS, succeed=False)
    assert f"{RUN}/{name}: damaged" in output
    snakemake(clone, FIGURE, *SETTINGS)
    assert outcome(clone) == outcome(built)


@pytest.mark.long
@pytest.mark.parametrize("damage", [flip, truncate])
def test_damaged_checkpoint(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    undisturbed, folder = copy_workflow(tmp_path / "undisturbed"), copy_workflow(tmp_path / "clone")
    snakemake(undisturbed, FIGURE, *SLOWER)
    process = start(folder)
    checkpoint = folder / "results/smoke/checkpoints/linear/lsa-d1-weights/seed-1/checkpoint"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.05)
    kill(process)
    damage(checkpoint)
    unlock(folder)
    snakemake(folder, FIGURE, *SLOWER)
    log = (folder / "results/smoke/logs/train/linear/lsa-d1-weights/seed-1.log").read_text()
    assert "seed-1/checkpoint is discarded: it is damaged" in log
    assert outcome(folder) == outcome(undisturbed)


@mounts
@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("tables", "tables/fig13.parquet"),
        pytest.param("figures", "figures/fig13.pdf", marks=pytest.mark.long),
        pytest.param("checkpoints", "checkpoint", marks=pytest.mark.long),
    ],
)
def test_full_disk(clone: Path, built: Path, where: str, what: str) -> None:
    redo(clone)
    if where == "checkpoints":
        shutil.rmtree(clone / RUN)
    with mounted(clone / "results/smoke" / where, "-t", "tmpfs", "-o", "size=4k,nr_inodes=100", "tmpfs"):
        output = snakemake(clone, FIGURE, *SETTINGS, succeed=False)
        lines = [line for line in output.splitlines() if what in line and "cannot be written" in line]
        assert any("No space left on device" in line for line in lines), output
        assert not (clone / "results/smoke/tables/fig13.parquet").exists() or where == "figures"
    snakemake(clone, FIGURE, *SETTINGS)
    assert outcome(clone) == outcome(built)


@mounts
@pytest.mark.long
def test_read_only_results(clone: Path, built: Path) -> None:
    redo(clone)
    results = clone / "results"
    with mounted(results, "--bind", str(results)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
        assert "Read-only file system" in snakemake(clone, FIGURE, *SETTINGS, succeed=False)
    snakemake(clone, FIGURE, *SETTINGS)
    assert outcome(clone) == outcome(built)


@pytest.mark.long
def test_files_dated_in_the_future(clone: Path, built: Path) -> None:
    tomorrow = time.time() + 86400
    for path in [path for path in clone.rglob("*") if path.is_file() and ".snakemake" not in path.parts]:
        os.utime(path, (tomorrow, tomorrow))
    redo(clone)
    output = snakemake(clone, FIGURE, *SETTINGS)
    assert "were dated in the future; they are dated now" in output
    assert "rule train" not in output
    assert outcome(clone) == outcome(built)
    assert planned(clone, FIGURE, *SETTINGS) == {}


@pytest.mark.long
def test_two_snakemakes_in_one_folder(clone: Path, built: Path) -> None:
    shutil.rmtree(clone / RUN)
    redo(clone)
    first = start(clone, *SETTINGS)
    while not (clone / RUN).exists():
        assert first.poll() is None
        time.sleep(0.05)
    assert "Directory cannot be locked" in snakemake(clone, FIGURE, *SETTINGS, succeed=False)
    assert first.wait(120) == 0
    assert outcome(clone) == outcome(built)


def start(folder: Path, *settings: str) -> "subprocess.Popen[bytes]":
    line = command(FIGURE, "--quiet", "all", *(settings or SLOWER))
    return subprocess.Popen(line, cwd=folder, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True)


def kill(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def unlock(folder: Path) -> None:
    snakemake(folder, "--unlock", *SLOWER)


@pytest.mark.long
def test_killed_at_twenty_random_moments(tmp_path: Path, random: Random) -> None:
    undisturbed, folder = copy_workflow(tmp_path / "undisturbed"), copy_workflow(tmp_path / "clone")
    started = time.monotonic()
    snakemake(undisturbed, FIGURE, *SLOWER)
    whole = time.monotonic() - started
    killed = 0
    while killed < 20:
        process = start(folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0, whole))
        if process.poll() is None:
            kill(process)
            killed += 1
            unlock(folder)
        else:  # it finished: from the beginning
            assert (process.returncode, outcome(folder)) == (0, outcome(undisturbed))
            for name in ("results", "figures"):
                shutil.rmtree(folder / name)
    snakemake(folder, FIGURE, *SLOWER)
    assert outcome(folder) == outcome(undisturbed)
