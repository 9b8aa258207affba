"""The code fingerprint follows what code does, not how it is written; provenance says where and from what."""

import json
import subprocess
import sys
from pathlib import Path

from mesaopt.store.environment import versions
from mesaopt.store.provenance import commit, provenance, write_json


def test_fingerprinting_and_provenance_import_nothing_heavy():
    code = (
        "import sys; from mesaopt.store.fingerprint import code_fingerprint;"
        "from mesaopt.store.provenance import provenance;"
        "code_fingerprint('mesaopt.store.tables'); provenance();"
        "print([m for m in ('torch', 'pandas', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_provenance_counts_time_before_a_resume_and_is_json(tmp_path: Path):
    content = provenance(started=1_000_000_000.0, seconds_before=0.5, device="cpu")
    write_json(tmp_path / "deep" / "provenance.json", content)
    read = json.loads((tmp_path / "deep" / "provenance.json").read_text())
    assert read == content
    assert read["started"] == "2001-09-09T01:46:40+00:00"
    assert read["wall_seconds"] > 20 * 365 * 24 * 3600
    assert read["device"] == "cpu" and read["cpu"] and read["host"]
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "provenance.json"]


def test_versions_have_no_local_part():
    assert {"torch", "numpy"} <= set(versions())
    assert not any("+" in version for version in versions().values())


def test_commit_is_the_head_of_the_sources_or_unknown():
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    expected = head.stdout.strip() if head.returncode == 0 else "unknown"
    assert commit()["commit"] == expected
