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
from mesaopt.store.digests import digest_path, require_intact
from mesaopt.store.tables import read_table, write_table

FRAME = pd.DataFrame({"predictor": ["GD-1"] * 5, "batch": 0, "t": range(1, 6), "mse": [0.5, 0.25, 0.125, 0.0625, 0.03125]})
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
    assert (tmp_path / f"result.{kind}.damaged").read_bytes() == bytes(content)


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


def test_stages_check_the_weights_they_are_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    status = main(["extract", "--weights", str(path), "--out", str(tmp_path / "a"), "--structure", str(tmp_path / "b")])
    assert status == 1
    assert f"{path}: damaged" in capsys.readouterr().err
