"""Records of what results were made from lie beside them, and digests of large files are not taken anew."""

from pathlib import Path

import pandas as pd
import pytest

from mesaopt.store.digests import digest_path
from mesaopt.store.disk import sha256
from mesaopt.store.made import Made, chain_of, content, made_path, read_made, write_made
from mesaopt.store.tables import write_table

FRAME = pd.DataFrame({"predictor": ["GD-1"] * 2, "batch": 0, "t": [1, 2], "mse": [0.5, 0.25]})
FRAME = FRAME.assign(sequences=9, error=0.01, median=0.1)[["predictor", "batch", "t", "sequences", "mse", "error", "median"]]


def made(result: Path, rule: str = "collect") -> Made:
    inputs = {"results/smoke/b.json": "12", "a folder": None}
    return Made(str(result), "34", rule, "run {input}", ["'one'", "(1, 11)"], inputs, "56", 1.5, 2.5, 7)


@pytest.mark.parametrize("name", ["figures/v2/fig4.pdf", "results/smoke/runs/linear/lsa-d1/seed-1/spec.json"])
def test_a_record_lies_beside_its_result(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert read_made(path) is None
    write_made(made(path))
    assert made_path(path).parent == path.parent
    assert read_made(path) == made(path)
    write_made(made(path, "another"))
    assert read_made(path) == made(path, "another")
    assert [file.name for file in path.parent.iterdir()] == [f".{path.name}.made.json"]


def test_records_of_figure_tables_lie_where_nobody_scans(tmp_path: Path) -> None:
    tables = tmp_path / "results/smoke/tables"
    for name in ("fig1.parquet", "fig1.json", "v2/fig4.parquet"):
        assert tables not in made_path(tables / name).parents
    assert len({made_path(tables / name) for name in ("fig1.parquet", "fig1.json")}) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"result": "x"}', '{"a later": "version"}'])
def test_what_is_no_record_counts_as_none(tmp_path: Path, text: str) -> None:
    made_path(tmp_path / "x").write_text(text)
    assert read_made(tmp_path / "x") is None


def test_the_content_of_a_table_is_told_by_its_digest(tmp_path: Path) -> None:
    path, plain = tmp_path / "loss.parquet", tmp_path / "x.json"
    write_table(FRAME, "loss", path)
    assert content(path) == sha256(path)
    digest_path(path).write_text("as written\n")
    assert content(path) == "as written"
    plain.write_text("{}")
    assert content(plain) == sha256(plain)
    assert content(tmp_path) is None
    path.unlink()
    assert content(path) is None


def test_a_chain_tells_everything_behind_apart_but_no_order() -> None:
    chain = chain_of("c", ["p"], ["a", "b"], ["1", "2"])
    assert chain == chain_of("c", ["p"], ["b", "a"], ["2", "1", "1"])
    others = [chain_of("d", ["p"], ["a", "b"], ["1", "2"]), chain_of("c", ["q"], ["a", "b"], ["1", "2"])]
    others += [chain_of("c", ["p"], ["a"], ["1", "2"]), chain_of("c", ["p"], ["a", "b"], ["1", "3"])]
    assert len({chain, *others}) == 5
