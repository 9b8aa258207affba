"""Files reach the disk before their names, and names before anyone is told; a refusal is one line, whoever was refused."""

import errno
import os
import stat
from pathlib import Path

import pandas as pd
import pytest
from safetensors import SafetensorError

from mesaopt.errors import InputError
from mesaopt.store.made import Made, write_made
from mesaopt.store.tables import atomic_path, sync_folder, write_table

LOSS = pd.DataFrame({"predictor": ["any"], "batch": [0], "t": [1], "mse": [1.0]}).assign(sequences=9, error=0.01, median=0.1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Syncs (with what was synced) and renames (with the new name), in their order."""
    found: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        found.append((kind, Path(f"/proc/self/fd/{handle}").resolve().name if kind == "folder" else ""))
        fsync(handle)

    def renamed(old: Path, new: Path) -> None:
        found.append(("rename", Path(new).name))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return found


def test_a_folder_is_synced_after_the_rename_in_it(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    write_table(LOSS, "loss", tmp_path / "run/loss.parquet")
    digest, table = ("rename", ".loss.parquet.sha256"), ("rename", "loss.parquet")
    assert calls == [("file", ""), ("file", ""), digest, table, ("folder", "run")], "table and digest before their names"


def test_so_are_the_folders_of_digests_and_records(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    """The digest of a figure's table lies apart, and is there before the table is."""
    path = tmp_path / "results/smoke/tables/fig1.parquet"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"table")
    digest = [("file", ""), ("rename", "fig1.parquet.sha256"), ("folder", "tables")]
    assert calls == [("file", ""), *digest, ("rename", "fig1.parquet"), ("folder", "tables")]
    calls.clear()
    write_made(Made(str(path), None, "collect", None, [], {}, ""))
    assert calls == [("file", ""), ("rename", "fig1.parquet.made.json"), ("folder", "tables")]


def test_file_systems_that_cannot_sync_a_folder_are_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def refuse(number: int):
        def fsync(handle: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def tidied() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        raise AttributeError("'Stream' object has no attribute 'pos'")  # noqa: B904


def serialised() -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("refused", [tidied, serialised])
def test_a_refusal_is_one_line_whoever_was_refused(tmp_path: Path, refused) -> None:
    with pytest.raises(InputError, match=r"^.*/a: cannot be written \(No space left on device\)$"), atomic_path(tmp_path / "a"):
        refused()
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
