"""The image of Containerfile, on a bootstrapped Debian: it is the declared environment, and computes what this one computes."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from image import Image, built
from workflow_folder import ROOT, copy_workflow, snakemake

from mesaopt.store.environment import pip_pins

pytestmark = [pytest.mark.long, pytest.mark.system("it installs buildah and builds an image")]
LOCK = "requirements-cpu.lock"
SMOKE = ("--config", "scale=smoke")
FIGURE, TABLE = "figures/fig13.pdf", "results/smoke/tables/fig13.parquet"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with built(tmp_path_factory.mktemp("image"), LOCK) as image:
        yield image


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_workflow(tmp_path / "clone")


def test_it_has_the_declared_environment(image: Image, clone: Path) -> None:
    assert image.run(clone, "snakemake", "--version").strip() == pip_pins(ROOT, "requirements.txt")["snakemake"]
    assert "0 not" in image.run(clone, "snakemake", "environment", *SMOKE)
    compared = pd.read_parquet(clone / "results/smoke/environment.parquet")
    assert set(compared["state"]) == {"as declared", "recorded"}
    assert sum(compared["declared_in"] == LOCK) == len(pip_pins(ROOT, LOCK)) - 1, "all but setuptools, which any will do of"
    assert image.run(clone, "git", "--version").startswith("git version")


def test_it_is_saved_as_the_archive_that_apptainer_takes(image: Image) -> None:
    with tarfile.open(image.save()) as archive:
        (described,) = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(described["Config"]))
    assert [tag.rpartition("/")[2] for tag in described["RepoTags"]] == ["mesaopt:latest"]
    assert "PATH=/opt/mesaopt/bin:" in "".join(config["config"]["Env"])


def test_a_figure_is_made_in_it_and_its_numbers_are_those_made_outside(image: Image, clone: Path, tmp_path: Path) -> None:
    outside = copy_workflow(tmp_path / "outside")
    image.run(clone, "snakemake", FIGURE, *SMOKE)
    assert (clone / FIGURE).read_bytes().startswith(b"%PDF")
    made = json.loads((clone / "results/smoke/runs/linear/lsa-d1-weights/seed-1/provenance.json").read_text())
    assert made["backend"] == "native", "there is a compiler in it"
    snakemake(outside, FIGURE, *SMOKE)
    inside, expected = (pd.read_parquet(folder / TABLE) for folder in (clone, outside))
    pd.testing.assert_frame_equal(inside, expected, check_exact=True)
