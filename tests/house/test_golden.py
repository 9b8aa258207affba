"""Nothing lost: the smoke chain gives the numbers that it gave before the redesign, bit for bit, on both CPU backends."""

import json
from pathlib import Path

import pytest
from golden import GOLDEN, contents, machine
from workflow_folder import copy_workflow, snakemake

BACKENDS = ("native", "torch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_golden_set_holds_every_kind_of_result(backend: str) -> None:
    files = json.loads((GOLDEN / f"smoke-{backend}.json").read_text())["files"]
    assert len(files) > 200
    for part in ("tables/fig3.parquet", "data/linear/seed-1.parquet", "theory/linear/gd1/parameters.parquet"):
        assert part in files
    for name in ("weights.safetensors", "history.parquet", "probes.parquet", "interpolation.parquet"):
        assert any(path.endswith(name) for path in files), name


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_those_of_the_golden_set(tmp_path: Path, backend: str) -> None:
    golden = json.loads((GOLDEN / f"smoke-{backend}.json").read_text())
    if golden["machine"] != machine():
        pytest.skip(f"THE GOLDEN SET IS OF ANOTHER MACHINE: {golden['machine']}")
    folder = copy_workflow(tmp_path / "clone")
    files = golden["files"]
    tables = [f"results/smoke/{name}" for name in files if name.startswith("tables/")]
    snakemake(folder, *tables, "--config", "scale=smoke", f"backend={backend}", timeout=3600)
    found = contents(folder / "results/smoke")
    assert files.keys() - found.keys() <= {"agreement.parquet", "spread.parquet"}, "nothing that figures need is missing"
    both = files.keys() & found.keys()
    assert {name: found[name] for name in both} == {name: files[name] for name in both}
