"""Shapes in signatures are checked in every test: the import hook must come before anything imports mesaopt.

A test that changes the machine is marked `system`, and runs only where it was asked for (helpers/system.py); one that computes
on a GPU is marked `gpu`.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random, SystemRandom

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# no SLURM of this machine is asked: one that is away would cost every Snakemake ten seconds, and a real one is none of a test's;
# empty settings fail at once, where missing ones are looked for for a minute
os.environ["SLURM_CONF"] = "/dev/null"

from jaxtyping import install_import_hook

install_import_hook("mesaopt", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, help="of every random moment and sample, as a failed test printed it; else a new one each"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from system import skip_unasked
    from tiny_runs import NEEDS_GPU

    # files that start Snakemake take longest and stand first, so that at the end no process waits for another's
    items.sort(key=lambda item: "workflow" not in item.path.parts)
    skip_unasked(items)
    for item in items:
        if NEEDS_GPU.mark in item.iter_markers("skipif"):
            item.add_marker("gpu")


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """A source of random moments that can be had again: a failed test shows its seed."""
    given = request.config.getoption("--seed")
    seed = SystemRandom().randrange(2**32) if given is None else given
    print(f"random moments of seed {seed}; again: pytest --seed {seed} '{request.node.nodeid}'")
    return Random(seed)


@pytest.fixture(scope="session")
def smoke_figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which figures 1 and 13 are up to date at the smoke scale; tests that change it work on a copy."""
    from shared import made_once
    from workflow_folder import copy_workflow, snakemake

    def make(folder: Path) -> None:
        snakemake(copy_workflow(folder), "figures/fig1.pdf", "figures/fig13.pdf", "--config", "scale=smoke")

    # plans of two processes in one folder would come into each other's way; copy2 keeps the time stamps, which Snakemake compares
    made = made_once(tmp_path_factory, "smoke", make)
    return shutil.copytree(made, tmp_path_factory.mktemp("smoke") / "clone", symlinks=True)


@pytest.fixture(scope="session")
def results_of_figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic results of a scale with all that figures read; to be left as it is."""
    from figure_inputs import write_results
    from shared import made_once

    return made_once(tmp_path_factory, "results", write_results) / "synthetic"


@pytest.fixture(scope="session")
def collected_figures(results_of_figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with table and provenance of every figure, of those results; to be left as it is."""
    from figure_inputs import SEEDS
    from shared import made_once

    from mesaopt.figures.collect import collect
    from mesaopt.figures.registry import FIGURES

    def make(folder: Path) -> None:
        for name in FIGURES:
            collect(name, results_of_figures, SEEDS, folder / f"{name}.parquet", folder / f"{name}.json")

    return made_once(tmp_path_factory, "figures", make)


@pytest.fixture(scope="session")
def smoke_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `snakemake all` is up to date with `ALL` (minutes: for long tests); to be left as it is."""
    from workflow_folder import ALL, copy_workflow, snakemake

    folder = copy_workflow(tmp_path_factory.mktemp("all") / "clone")
    snakemake(folder, "all", "--config", *ALL, timeout=3600)
    return folder


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is compiled, for a CPU or for a GPU, goes into a folder of its own, once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def kernels(own_cache: None) -> None:
    """The native kernel can be compiled; without a compiler these tests are skipped."""
    from mesaopt.backends.native import build

    try:
        build.compiler()
    except build.BuildError as error:
        pytest.skip(f"THE NATIVE KERNEL IS NOT TESTED: {error}")


@pytest.fixture
def kernels_of_cpus(request: pytest.FixtureRequest, own_cache: None) -> None:
    """`kernels`, but for tests on a GPU: there NVRTC compiles, and want of a C++ compiler is no reason to skip them."""
    if request.node.get_closest_marker("gpu") is None:
        request.getfixturevalue("kernels")
