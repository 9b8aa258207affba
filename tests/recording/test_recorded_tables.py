"""The recorded tables were written anew once, in other encodings: no value changed."""

import io
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
SUBJECT = "Recorded tables in encodings that every reader knows"


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def commit() -> str:
    try:
        found = git("log", "--format=%H", f"--grep=^{SUBJECT}", "--", "results/recorded").decode().split()
        git("cat-file", "-e", f"{found[-1]}^")
    except (OSError, IndexError, subprocess.CalledProcessError):
        pytest.skip("NOT TESTED: needs the history of the clone")
    return found[-1]


def table(revision: str, path: str) -> pa.Table:
    return pq.read_table(io.BytesIO(git("show", f"{revision}:{path}")), use_threads=False)


def bits(column: pa.ChunkedArray) -> list[bytes | None]:
    """Of all values and of which are missing: equal for NaN as for every other value."""
    return [None if buffer is None else buffer.to_pybytes() for buffer in column.combine_chunks().buffers()]


def test_only_encodings_changed(commit: str) -> None:
    changed = git("diff", "--name-only", f"{commit}^", commit, "--", "results").decode().split()
    tables = [path for path in changed if path.endswith(".parquet")]
    assert len(tables) >= 9
    assert {Path(path).suffix for path in changed} == {".parquet", ".sha256"}
    for path in tables:
        before, after = table(f"{commit}^", path), table(commit, path)
        assert after.schema.equals(before.schema) and after.num_rows == before.num_rows
        for name in before.column_names:
            assert bits(after[name]) == bits(before[name]), (path, name)
