"""Two folders of results: what is equal passes, every planted difference is found and named; the real chain runs twice."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_inputs import write_results
from workflow_folder import copy_workflow, snakemake

from mesaopt.errors import InputError
from mesaopt.store.compare import compare_folders, compare_stage


@pytest.fixture
def twice(tmp_path: Path) -> tuple[Path, Path]:
    first = write_results(tmp_path, only="fig1")
    (first / "runs/linear/lsa-d6/seed-1/weights.safetensors").write_bytes(b"weights")
    return first, shutil.copytree(first, tmp_path / "second")


def change(path: Path, column: str, row: int, by: float) -> None:
    frame = pd.read_parquet(path)
    frame.loc[row, column] += by
    frame.to_parquet(path)


PROBED = "runs/linear/lsa-d6/seed-1/in_context.parquet"


def test_equal_folders(twice: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    count, differences = compare_folders(*twice)
    assert count >= 3 and differences == []
    compare_stage(*twice, 0.0)
    assert f"{count} files of" in capsys.readouterr().out


def test_a_last_bit_is_found_and_named(twice: tuple[Path, Path]) -> None:
    value = pd.read_parquet(twice[1] / PROBED)["loss"][4]
    change(twice[1] / PROBED, "loss", 4, np.spacing(value))
    (line,) = compare_folders(*twice)[1]
    assert line.startswith(f"{PROBED}: column loss, 1 of ")
    assert "first row 4: " in line
    with pytest.raises(InputError, match=r"1 of \d+ files .* not equal bit for bit: runs/linear/lsa-d6/seed-1/in_context"):
        compare_stage(*twice, 0.0)


def test_other_bytes_of_the_same_values_are_a_difference(twice: tuple[Path, Path]) -> None:
    change(twice[1] / PROBED, "loss", 4, 0.0)
    assert compare_folders(*twice)[1] == [f"{PROBED}: the same values in other bytes"]


def test_weights_missing_files_and_rows_are_named(twice: tuple[Path, Path]) -> None:
    second = twice[1]
    (second / "runs/linear/lsa-d6/seed-1/weights.safetensors").write_bytes(b"Weights")
    (second / PROBED).unlink()
    other = second / PROBED.replace("seed-1/", "seed-11/")
    pd.read_parquet(other).iloc[:-1].to_parquet(other)
    lines = compare_folders(*twice)[1]
    assert [line.partition(":")[0].rpartition("/")[2] for line in lines] == [
        "in_context.parquet",
        "weights.safetensors",
        "in_context.parquet",
    ]
    assert "only in" in lines[0] and "other bytes" in lines[1] and "rows of" in lines[2]


def test_more_files_are_allowed_in_the_second_alone_when_asked(twice: tuple[Path, Path]) -> None:
    first, second = twice
    shutil.copy(second / PROBED, second / PROBED.replace("seed-1/", "seed-11/more-"))
    assert "only in" in compare_folders(first, second)[1][0]
    assert compare_folders(first, second, more=True)[1] == []
    assert "only in" in compare_folders(second, first, more=True)[1][0]


def test_between_machines_a_tolerance_counts(twice: tuple[Path, Path]) -> None:
    change(twice[1] / PROBED, "loss", 4, 1e-6)
    assert compare_folders(*twice, tolerance=1e-4)[1] == []
    change(twice[1] / PROBED, "loss", 4, 1e-2)
    assert "column loss, 1 of" in compare_folders(*twice, tolerance=1e-4)[1][0]


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table to compare"):
        compare_stage(tmp_path, tmp_path, 0.0)
    with pytest.raises(InputError, match="no such folder"):
        compare_stage(tmp_path, tmp_path / "nowhere", 0.0)


@pytest.mark.long
def test_the_chain_comes_out_the_same_twice(tmp_path: Path) -> None:
    """The rule on figures 1 and 13 alone: trainings of both seeds apart and in one pack."""
    clone = copy_workflow(tmp_path / "clone")
    rules = clone / "workflow/rules/checks.smk"
    text = rules.read_text()
    assert "for figure in FIGURES]" in text
    rules.write_text(text.replace("for figure in FIGURES]", 'for figure in ("fig1", "fig13")]'))
    output = snakemake(clone, "reproduction")
    assert "are equal bit for bit" in output
    first, second = (clone / f"results/smoke/reproduction/{name}" for name in ("first", "second"))
    packs = [path.name for path in second.rglob("seeds-1-to-11*")]
    assert packs and not list(first.rglob("seeds-1-to-11*"))
    assert compare_folders(first / "results/smoke", second / "results/smoke", more=True)[0] > 10
