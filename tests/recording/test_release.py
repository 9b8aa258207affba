"""The release: what is recorded as one archive that the field's validator accepts."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from own_git import commit_all
from workflow_folder import ROOT, snakemake

from mesaopt.errors import InputError
from mesaopt.recording.record import record
from mesaopt.recording.release import release_stage
from mesaopt.store.environment import LOCKS

SMOKE, RECORDED, ARCHIVE = Path("results/smoke"), Path("results/recorded"), Path("results/mesaopt.crate.zip")
WEIGHTS = "weights/linear/lsa-d1-weights/seed-1/weights.safetensors"
VALIDATOR = ROOT / "tests/helpers/validate_crate.py"


@pytest.fixture
def recorded(clone: Path) -> Path:
    record(SMOKE, RECORDED)
    commit_all(clone, "recorded")
    return clone


def unpacked(folder: Path) -> dict:
    """Unpack the archive into `folder`; its entities by name."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return {entity["@id"]: entity for entity in json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]}


def test_one_target_packs_what_is_recorded(recorded: Path, tmp_path: Path) -> None:
    snakemake(recorded, "release")
    entities = unpacked(tmp_path / "crate")
    assert (tmp_path / "crate" / WEIGHTS).read_bytes() == (RECORDED / WEIGHTS).read_bytes()
    there = {str(path.relative_to(tmp_path / "crate")) for path in (tmp_path / "crate").rglob("*") if path.is_file()}
    assert there == {part["@id"] for part in entities["./"]["hasPart"]} | {"ro-crate-metadata.json"}
    assert {"LICENSE", "CITATION.cff", "tables/fig13.parquet", "records/fig13.json", "config/experiments.yaml", *LOCKS} <= there
    for name in there - {"ro-crate-metadata.json"}:
        content = (tmp_path / "crate" / name).read_bytes()
        assert entities[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert entities[name]["contentSize"] == str(len(content))
    made = entities["#fig13"]
    assert {"@id": WEIGHTS} in made["object"] and {"@id": "tables/fig13.parquet"} in made["result"]
    assert made["description"].endswith("trainings without weights here: 0")


def test_the_same_commit_gives_the_same_bytes(recorded: Path) -> None:
    release_stage(RECORDED, ARCHIVE, recorded)
    first = ARCHIVE.read_bytes()
    for path in RECORDED.rglob("*"):
        os.utime(path)
    release_stage(RECORDED, ARCHIVE, recorded)
    assert ARCHIVE.read_bytes() == first


def test_changes_and_damage_and_nothing_recorded_are_refused(recorded: Path) -> None:
    (RECORDED / "tables/fig13.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="the work tree has changes"):
        release_stage(RECORDED, ARCHIVE, recorded)
    commit_all(recorded, "damaged")
    with pytest.raises(InputError, match=r"fig13\.parquet: damaged"):
        release_stage(RECORDED, ARCHIVE, recorded)
    shutil.rmtree(RECORDED)
    commit_all(recorded, "nothing")
    with pytest.raises(InputError, match="holds no recorded figure"):
        release_stage(RECORDED, ARCHIVE, recorded)
    assert not ARCHIVE.exists()


def validated(folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, VALIDATOR, folder], capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(
    importlib.util.find_spec("rocrate_validator") is None and "CI" not in os.environ,
    reason="NOT TESTED: what the field's validator says of a release; `make test` installs roc-validator",
)
def test_the_validator_of_the_field_accepts_it(recorded: Path, tmp_path: Path) -> None:
    release_stage(RECORDED, ARCHIVE, recorded)
    entities = unpacked(tmp_path / "crate")
    # those who wrote this have no page of their own
    assert validated(tmp_path / "crate") == ["RECOMMENDED: The organization SHOULD have a URL."]
    for change in ({"license": None}, {"datePublished": None}, {"no_such_term": "x"}):
        root = {name: value for name, value in (entities["./"] | change).items() if value}
        text = json.dumps({"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": [*(entities | {"./": root}).values()]})
        (tmp_path / "crate/ro-crate-metadata.json").write_text(text)
        assert len(validated(tmp_path / "crate")) > 1, change
