"""Results of former versions are found, and not made again."""

import os
import shutil
from pathlib import Path

from workflow_folder import planned

from mesaopt.store.former import move_records

FIG13 = ("figures/fig13.pdf", "--config", "scale=smoke")


def test_records_leave_the_folder_of_tables(tmp_path: Path) -> None:
    for name in ("tables/a.json", "tables/v2/b.json", "tables/c.json", "tables/a.parquet", "records/c.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for _ in range(2):
        move_records(tmp_path)
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.*")}
    moved = {"records/a.json": "tables/a.json", "records/v2/b.json": "tables/v2/b.json"}
    stayed = {name: name for name in ("tables/a.parquet", "tables/c.json", "records/c.json")}
    assert found == moved | stayed


def test_no_results_are_no_mistake(tmp_path: Path) -> None:
    move_records(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_figure_of_a_former_version_is_not_made_again(smoke_figures: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(smoke_figures, tmp_path / "clone", symlinks=True)
    results = folder / "results/smoke"
    os.replace(results / "records/fig13.json", results / "tables/fig13.json")
    assert planned(folder, *FIG13) == {}
    assert (results / "records/fig13.json").exists() and not (results / "tables/fig13.json").exists()
