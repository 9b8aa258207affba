"""A damaged table or weights file is found, named and set aside, wherever the damage is."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesaopt.__main__ import main
from mesaopt.errors import InputError
from mesaopt.models.weights import save_weights
from mesaopt.store.digests import beside, digest_path, forget_digest, require_intact
from mesaopt.store.tables import read_table, write_table

FRAME = pd.DataFrame({"predictor": ["GD-1"] * 5, "batch": 0, "t": range(1, 6), "mse": [0.5, 0.25, 0.125, 0.0625, 0.03125]})
FRAME = FRAME.assign(sequences=9, error=0.01, median=0.1)[["predictor", "batch", "t", "sequences", "mse", "error", "median"]]
CALMLY = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, kind: str) -> Path:
    path = folder / f"result.{kind}"
    if kind == "parquet":
        write_table(FRAME, "loss", path)
    else:
        save_weights({"layers.0.W_Q": torch.arange(6.0).reshape(2, 3)}, path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
@CALMLY
@given(data=st.data())
def test_any_flipped_bit_is_found(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path = written(tmp_path, kind)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"result\.{kind}: damaged, .*run again"):
        require_intact(path)
    assert not path.exists()
    assert (tmp_path / f"_result.{kind}.damaged").read_bytes() == bytes(content)


@CALMLY
@given(data=st.data())
def test_any_truncation_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = written(tmp_path, "parquet")
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size - 1))])
    with pytest.raises(InputError, match="damaged"):
        read_table(path, "loss")


def test_an_intact_file_and_one_from_elsewhere_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet")
    pd.testing.assert_frame_equal(read_table(path, "loss"), FRAME, check_dtype=False)
    digest_path(path).unlink()
    pd.testing.assert_frame_equal(read_table(path, "loss"), FRAME, check_dtype=False)


def in_results(tmp_path: Path, place: str) -> Path:
    path = tmp_path / "results" / "smoke" / place
    write_table(FRAME, "loss", path)
    return path


@pytest.mark.parametrize("place", ["tables/fig1.parquet", "tables/v2/fig4.parquet"])
def test_folders_of_tables_hold_no_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    path = in_results(tmp_path, place)
    assert [file for file in (tmp_path / "results/smoke/tables").rglob("*") if file.is_file()] == [path]
    digest = tmp_path / "results/smoke/.digests" / f"{place}.sha256"
    assert digest_path(path) == digest and digest.exists()
    assert [file for file in digest.parent.iterdir() if file.is_file()] == [digest]
    monkeypatch.chdir(path.parent)  # whatever the file is called from where
    assert digest_path(Path(path.name)) == digest
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        require_intact(Path(path.name))


def test_weights_and_tables_elsewhere_keep_theirs_beside_them(tmp_path: Path) -> None:
    run = in_results(tmp_path, "runs/linear/lsa/seed-1/history.parquet")
    for path in (run, Path("/tables/a.parquet"), tmp_path / "tables/a.parquet"):
        assert digest_path(path) == beside(path)
    assert beside(run).exists()


def test_digests_of_older_versions_are_understood(tmp_path: Path) -> None:
    """They lie beside every file; a folder may be written by an older and a newer version in turn."""
    path = in_results(tmp_path, "tables/fig1.parquet")
    digest_path(path).rename(beside(path))
    require_intact(path)
    older = path.read_bytes()
    write_table(FRAME[:-1], "loss", path)
    assert not beside(path).exists()
    new = digest_path(path).read_text()
    path.write_bytes(older)  # by the older version, which leaves the newer one's digest
    beside(path).write_text(digest_path(in_results(tmp_path, "tables/same.parquet")).read_text())
    require_intact(path)
    assert digest_path(path).read_text() == new
    path.write_bytes(older[:-1])
    with pytest.raises(InputError, match="damaged"):
        require_intact(path)
    forget_digest(path)
    path.write_bytes(older[:-1])
    require_intact(path)  # from elsewhere, as far as anybody knows


def test_stages_check_the_weights_they_are_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    status = main(["extract", "--weights", str(path), "--out", str(tmp_path / "a"), "--structure", str(tmp_path / "b")])
    assert status == 1
    assert f"{path}: damaged" in capsys.readouterr().err


def test_a_damaged_table_that_was_set_aside_does_not_disturb_its_folder(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.parquet", written(tmp_path, "parquet")
    pd.DataFrame({"x": [1]}).to_parquet(good)
    bad.write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged"):
        require_intact(bad)
    assert pd.read_parquet(tmp_path)["x"].tolist() == [1]
