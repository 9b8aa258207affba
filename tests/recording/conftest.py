"""A committed clone in which figure 13 was made at the smoke scale, ready to be recorded."""

import shutil
from pathlib import Path

import pytest
from own_git import commit_all, git
from workflow_folder import ROOT, copy_workflow, snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed clone in which figure 13 was made at the smoke scale."""
    folder = copy_workflow(tmp_path_factory.mktemp("finished") / "clone")
    for name in (".gitignore", "LICENSE", "CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "--quiet")
    commit_all(folder, "all")
    snakemake(folder, "results/smoke/tables/fig13.parquet", "--config", "scale=smoke", "seeds=[1]")
    return folder


@pytest.fixture
def clone(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(finished, tmp_path / "clone", symlinks=True)
    monkeypatch.chdir(folder)
    return folder
