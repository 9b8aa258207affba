"""Recording in parts: seeds are added to a recorded figure as if all had been collected at once, and none is lost unasked."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from figure_inputs import write_results
from workflow_folder import ROOT

from mesaopt.__main__ import main
from mesaopt.agreement.judge import judge_stage
from mesaopt.errors import InputError
from mesaopt.figures.collect import collect
from mesaopt.figures.draw import draw, small_print
from mesaopt.figures.options import Style
from mesaopt.figures.registry import figure, inputs
from mesaopt.recording.record import record
from mesaopt.recording.union import difference, unite
from mesaopt.recording.union_facts import Made
from mesaopt.store.tables import read_table, write_table

ORDER = (1, 11, 111, 1111, 11111)
RECORDED = Path("recorded")


def part(folder: Path, name: str, seeds: tuple[int, ...], **facts: str) -> Path:
    """A finished figure of some seeds at paper settings, whose trainings were recorded with `facts`, under `folder`."""
    results = write_results(folder, seeds, only=name)
    for path in inputs(name, seeds):
        if path.endswith("provenance.json"):
            change(results / path, **facts)
    collect(name, results, seeds, results / f"tables/{name}.parquet", results / f"records/{name}.json")
    change(results / f"records/{name}.json", scale="paper")
    return results


def change(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def made(results: Path, name: str) -> Made:
    return Made(read_table(results / f"tables/{name}.parquet", "figure"), facts_of(results, name))


def facts_of(folder: Path, name: str) -> dict:
    return json.loads((folder / f"records/{name}.json").read_text())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean work tree that ignores all results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitignore").write_text("*\n")
    subprocess.run(["git", "init", "--quiet"], check=True)
    return tmp_path


@pytest.mark.parametrize("name", ["fig2", "fig12"])
def test_parts_give_the_table_of_all_seeds_at_once(tmp_path: Path, name: str) -> None:
    parts = [made(part(tmp_path / str(seed), name, (seed,)), name) for seed in (11, 1, 111)]
    whole = part(tmp_path / "whole", name, (1, 11, 111))
    union = unite(name, unite(name, *parts[:2], ORDER), parts[2], ORDER)
    write_table(union.table, "figure", tmp_path / "union.parquet")
    assert (tmp_path / "union.parquet").read_bytes() == (whole / f"tables/{name}.parquet").read_bytes()
    facts = dict(union.facts)
    assert [kept["seeds"] for kept in facts.pop("parts")] == [[11], [1], [111]]
    assert facts == facts_of(whole, name)


def test_seeds_are_added_with_where_they_come_from(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(part(place / "a", "fig2", (1, 11), cpu="EPYC", environment="e1"), RECORDED)
    second = part(place / "b", "fig2", (111, 1111), cpu="Xeon", commit="fedcba", environment="e2", wall_seconds=3600.0)
    capsys.readouterr()
    record(second, RECORDED)
    assert "fig2: recorded, seeds 111, 1111 added: now seeds 1, 11, 111, 1111" in capsys.readouterr().out.splitlines()
    table, facts = read_table("recorded/tables/fig2.parquet", "figure"), facts_of(RECORDED, "fig2")
    curves = table[table["panel"] == "mse_1"]
    assert curves["seed"].unique().tolist() == facts["seeds"] == [1, 11, 111, 1111]
    assert set(table.loc[table["panel"].isin(["layer_1_head_1_QK", "training_loss_1_test_batches"]), "seed"]) == {1}
    assert facts["commits"] == ["0123456789abcdef", "fedcba"] and facts["machines"] == ["EPYC", "Xeon"]
    assert facts["environments"] == ["e1", "e2"] and facts["versions"] == {"numpy": ["2.0"]} and facts["dirty"] is False
    assert facts["runs"]["linear/lsa-d1"]["seeds"] == [1, 11, 111, 1111]
    assert facts["runs"]["linear/lsa-d1-weights"]["seeds"] == [1], "the weights of seed 111 are not in the table"
    # 36 s each of two seeds of four runs and one of the weights; an hour each of two seeds of four runs
    first, added = facts["parts"]
    assert (first["seeds"], added["seeds"], added["machines"]) == ([1, 11], [111, 1111], ["Xeon"])
    assert first["training_hours"] == pytest.approx(0.09) and added["training_hours"] == 8
    assert facts["training_hours"] == pytest.approx(8.09) and "estimated" not in added


def test_seeds_that_both_have_come_from_the_new_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(part(place / "a", "fig2", (1, 11, 111), commit="a"), RECORDED)
    second = part(place / "b", "fig2", (11, 1111), commit="b")
    path = second / "tables/fig2.parquet"
    table = read_table(path, "figure")
    write_table(table.assign(y=table["y"].where(table["panel"] != "mse_1", 7.0)), "figure", path)
    record(second, RECORDED)
    assert "fig2: recorded, seed 1111 added and seed 11 made anew: now seeds 1, 11, 111, 1111" in capsys.readouterr().out
    curves = read_table("recorded/tables/fig2.parquet", "figure").query("panel == 'mse_1'")
    assert set(curves.loc[curves["y"] == 7, "seed"]) == {11, 1111} and not curves.duplicated(["series", "seed", "x"]).any()
    parts = facts_of(RECORDED, "fig2")["parts"]
    assert [(of["seeds"], of["commits"]) for of in parts] == [([1, 111], ["a"]), ([11, 1111], ["b"])]
    assert [of["training_hours"] for of in parts] == [pytest.approx(0.09), pytest.approx(0.08)]


def test_a_part_of_which_nothing_is_left_is_forgotten(place: Path) -> None:
    for seeds, commit in (((1,), "a"), ((11,), "b"), ((111,), "c"), ((1, 11), "d")):
        record(part(place / commit, "fig2", seeds, commit=commit), RECORDED)
    facts = facts_of(RECORDED, "fig2")
    assert [of["commits"] for of in facts["parts"]] == [["c"], ["d"]] and facts["commits"] == ["c", "d"]
    record(part(place / "e", "fig2", (1, 11, 111), commit="e"), RECORDED)
    assert facts_of(RECORDED, "fig2") == facts_of(place / "e/synthetic", "fig2"), "one part again"


def test_panels_of_one_seed_show_the_first_of_the_union(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(name: str) -> set[int]:
        table = read_table(f"recorded/tables/{name}.parquet", "figure")
        return set(table.loc[table["panel"] == "layer_1_head_1_QK", "seed"])

    for name in ("fig2", "fig9"):
        record(part(place / f"a{name}", name, (111, 1111)), RECORDED)
        record(part(place / f"b{name}", name, (11111,)), RECORDED)
        assert shown(name) == {111}
        record(part(place / f"c{name}", name, (11,)), RECORDED)
        assert shown(name) == {11}
    assert facts_of(RECORDED, "fig2")["seeds"] == [11, 111, 1111, 11111]
    assert "fig9: stays as recorded: it shows one seed, and seed 111 comes before seed 11111" in capsys.readouterr().out


def test_hours_that_were_not_recorded_by_seed_are_marked_as_estimated(place: Path) -> None:
    first = part(place / "a", "fig1", (1, 11, 111))
    runs = facts_of(first, "fig1")["runs"]
    bare = {run: {key: entry[key] for key in ("seeds", "spec")} for run, entry in runs.items()}
    change(first / "records/fig1.json", runs=bare, training_hours=3.0)
    record(first, RECORDED)
    record(part(place / "b", "fig1", (111, 1111)), RECORDED)
    old, new = facts_of(RECORDED, "fig1")["parts"]
    assert (old["training_hours"], old["estimated"]) == (2.0, True) and "estimated" not in new
    assert facts_of(RECORDED, "fig1")["runs"]["linear/lsa-d6"]["hours"] == {"111": 0.01, "1111": 0.01}


def test_other_settings_are_never_joined_and_no_seed_is_lost(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(part(place / "a", "fig2", (1, 11)), RECORDED)
    second = part(place / "b", "fig2", (11,))
    runs = facts_of(second, "fig2")["runs"]
    runs["linear/mesa-d1"]["spec"]["training"] = {"steps": 100}
    change(second / "records/fig2.json", runs=runs)
    before = {path: path.read_bytes() for path in RECORDED.rglob("*.*")}
    with pytest.raises(InputError) as error:
        record(second, RECORDED)
    expected = (
        "fig2: nothing is recorded, because seed 1 of the recorded table would be lost: the new one cannot be joined with it,"
        f" linear/mesa-d1: training is only in the new one; to drop them: python -m mesaopt record --results {second}"
        " --recorded recorded --replace fig2"
    )
    assert str(error.value) == expected
    assert {path: path.read_bytes() for path in RECORDED.rglob("*.*")} == before
    capsys.readouterr()
    assert main(expected.partition("python -m mesaopt ")[2].split()) == 0
    assert "fig2: recorded in place of the former one, seed 1 dropped" in capsys.readouterr().out
    assert facts_of(RECORDED, "fig2")["seeds"] == [11]
    record(part(place / "c", "fig2", (11, 111)), RECORDED)
    assert "fig2: recorded in place of the former one: linear/mesa-d1: training is only in the" in capsys.readouterr().out


def test_what_makes_tables_different(tmp_path: Path) -> None:
    old, new = (made(part(tmp_path / str(seed), "fig2", (seed,)), "fig2") for seed in (1, 11))
    assert difference(old, new) is None
    learned = {"linear/gd1": {"seed": 1, "spec": {"steps": 10}}}
    other = {"linear/gd1": {"seed": 111, "spec": {"steps": 10}}}
    says = [Made(of.table, of.facts | {"algorithms": what}) for of, what in ((old, learned), (new, other))]
    assert difference(*says) == "linear/gd1: seed was 1, is 111"
    assert difference(old, says[1]) is None, "what older records do not say is not held against them"
    lacks = Made(old.table[old.table["panel"] != "eta"], old.facts)
    assert difference(lacks, new) == "panel eta is only in the new table"
    assert difference(old, Made(lacks.table, new.facts)) == "panel eta is only in the recorded table"
    shorter = Made(new.table[new.table["x"] != 450], new.facts)
    assert difference(old, shorter) == "panel training_loss_1 has other series or positions"


def test_a_union_is_drawn_and_judged_like_any_table(place: Path) -> None:
    for seeds, commit, version in (((1,), "a" * 40, "2.0"), ((11,), "b" * 40, "2.1")):
        facts = {"commit": commit, "environment": version, "versions": {"numpy": version}}
        record(part(place / version, "fig2", seeds, **facts), RECORDED)
    facts = facts_of(RECORDED, "fig2")
    print_of = small_print(figure("fig2"), facts, Style())
    for words in ("2 seeds", "weights: seed 1", "made in 2 environments (numpy 2.0, 2.1)", "commits aaaaaaaa, bbbbbbbb"):
        assert words in print_of
    draw("fig2", RECORDED / "tables/fig2.parquet", RECORDED / "records/fig2.json", {}, place / "fig2.png")
    assert (place / "fig2.png").read_bytes().startswith(b"\x89PNG")
    judge_stage(ROOT, RECORDED / "tables", "recorded", [], place / "agreement.parquet")
    judged = read_table(place / "agreement.parquet", "agreement").set_index("claim")
    assert judged.loc["one-layer-is-gd", "seeds"] == 2


def curve(figure_name: str, gap: float) -> dict:
    names = {"figure": figure_name, "panel": "mse_1", "series": "LSA-1", "published": "a.csv"}
    measured = {"within": 1.0, "largest_gap": gap, "at": 7.0, "deviation": 0.02, "published_error": 0.01}
    return names | {"seeds": 1, "points": 50} | measured


def test_comparisons_with_published_curves_are_kept_where_they_belong(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of figures that were not touched stay; those of a union would be of one part alone."""
    first, second = part(place / "a", "fig2", (1,)), part(place / "b", "fig2", (11,))
    write_table(pd.DataFrame([curve("fig11", 0.5)]), "curves", RECORDED / "curves.parquet")
    for results, gap in ((first, 0.1), (second, 0.2)):
        write_table(pd.DataFrame([curve("fig2", gap)]), "curves", results / "curves.parquet")
    record(first, RECORDED)
    found = read_table(RECORDED / "curves.parquet", "curves")
    assert found["largest_gap"].tolist() == [0.1, 0.5] and found["figure"].tolist() == ["fig2", "fig11"]
    record(second, RECORDED)
    assert read_table(RECORDED / "curves.parquet", "curves")["figure"].tolist() == ["fig11"]
    assert "comparison with published curves: to be made for fig2: snakemake agreement" in capsys.readouterr().out


def test_a_figure_without_its_comparison_asks_for_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where others are compared; the comparison is then older than the table, so that the command makes it."""
    write_table(pd.DataFrame([curve("fig11", 0.5)]), "curves", RECORDED / "curves.parquet")
    record(part(place / "a", "fig2", (1,)), RECORDED)
    assert "comparison with published curves: to be made for fig2: snakemake agreement" in capsys.readouterr().out
    times = [(RECORDED / name).stat().st_mtime_ns for name in ("curves.parquet", "tables/fig2.parquet")]
    assert times == sorted(times)


def test_what_is_no_provenance_or_no_figure(place: Path) -> None:
    results = part(place / "a", "fig2", (1,))
    with pytest.raises(InputError, match="unknown figure 'fig222': did you mean 'fig22'"):
        record(results, RECORDED, replace=["fig222"])
    (results / "records/fig2.json").write_text('{"seeds": [1], "commits": ["a"]}')
    with pytest.raises(InputError, match=r"fig2.json: not the provenance of a figure \(no scale, runs, training_hours"):
        record(results, RECORDED)
    assert not RECORDED.exists()
