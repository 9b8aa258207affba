"""The code fingerprint follows what code does, not how it is written; provenance says where and from what."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


# --- the commit, as git says it
def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, text=True, capture_output=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed work tree whose sources are taken for the package's."""
    sources = tmp_path / "clone" / "src"
    (sources / "store").mkdir(parents=True)
    (sources / "store" / "provenance.py").write_text("")
    git(tmp_path / "clone", "init", "--quiet")
    git(tmp_path / "clone", "add", "--all")
    git(tmp_path / "clone", "commit", "--quiet", "--message", "all")
    monkeypatch.setattr("mesaopt.store.provenance.SOURCES", sources)
    return tmp_path / "clone"


def test_commit_is_the_head_and_dirty_what_differs(clone: Path) -> None:
    head = git(clone, "rev-parse", "HEAD")
    assert commit() == {"commit": head, "dirty": False}
    (clone / "elsewhere").write_text("")
    assert commit() == {"commit": head, "dirty": False}
    git(clone, "config", "status.showUntrackedFiles", "no")
    (clone / "src" / "new.py").write_text("")
    assert commit() == {"commit": head, "dirty": True}


def test_variables_of_a_hook_do_not_mislead(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git sets them when a hook of another repository starts the workflow."""
    head, other = git(clone, "rev-parse", "HEAD"), tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "another")
    names = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout.split()
    values = {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / ".git/none", "GIT_PREFIX": "a/"}
    values |= {"GIT_CONFIG_PARAMETERS": f"'core.worktree={other}'", "GIT_LITERAL_PATHSPECS": "1"}
    values |= {name: other / "none" for name in names if name not in values and name != "GIT_CONFIG_COUNT"}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    assert commit() == {"commit": head, "dirty": False}


def refusals() -> dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], object], str]]:
    """What keeps git from answering, and how its own words begin."""
    return {
        "none": (lambda clone, patch: shutil.rmtree(clone / ".git"), "fatal: not a git repository"),
        "untracked": (lambda clone, patch: git(clone, "rm", "--quiet", "--cached", "-r", "."), "error: pathspec"),
        "empty": (lambda clone, patch: git(clone, "checkout", "--quiet", "--orphan", "new"), "fatal: ambiguous argument 'HEAD'"),
        "damaged index": (lambda clone, patch: (clone / ".git" / "index").write_bytes(b"half"), "fatal: .*index file"),
        "missing": (lambda clone, patch: patch.setenv("PATH", str(clone)), "git cannot be run \\(No such file or directory\\)"),
        # what git itself takes for another's repository, in its own tests
        "another owner": (lambda clone, patch: patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1"), "fatal: detected dubious"),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_git_does_not_say_is_unknown_for_its_reason(clone: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    refuse, words = refusals()[name]
    refuse(clone, monkeypatch)
    found = commit()
    assert found["commit"] is None and found["dirty"] is None
    assert re.match(words, found["git"]) and "\n" not in found["git"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a clone to somebody else")
def test_a_clone_of_another_owner(clone: Path) -> None:
    for path in (clone, *clone.rglob("*")):
        os.chown(path, 12345, 12345)
    assert commit()["git"].startswith("fatal: detected dubious ownership in repository at")
    assert commit()["dirty"] is None


def test_a_read_only_clone_is_read(clone: Path) -> None:
    for path in (clone, *clone.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    os.utime(clone / "src/store/provenance.py", (0, 0))  # git would write this to its index
    assert commit() == {"commit": git(clone, "rev-parse", "HEAD"), "dirty": False}
    for path in (clone, *clone.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def test_commit_of_these_sources() -> None:
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    assert commit()["commit"] == (head.stdout.strip() if head.returncode == 0 else None)
