"""The claims and published curves that ship, and mistakes in their files: one line each."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.intervals import VERDICTS
from mesaopt.agreement.panels import has_series
from mesaopt.agreement.published import read_entries
from mesaopt.agreement.statistics import STATISTICS
from mesaopt.errors import InputError
from mesaopt.figures.registry import figure
from mesaopt.spec.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]
CLAIMS = read_claims(ROOT)
SHIPPED = read_yaml(ROOT / "config/claims.yaml")
ONE = "one-layer-is-gd"


def test_there_are_enough_claims_with_sources_and_controls() -> None:
    assert len(CLAIMS.claims) >= 26
    assert sum(claim.published is not None for claim in CLAIMS.claims) >= 20
    assert {claim.topic for claim in CLAIMS.claims} == set(CLAIMS.topics)
    used = {claim.statistic for claim in CLAIMS.claims}
    assert used == set(STATISTICS), "a statistic without a claim"
    assert {"fig1", "fig2", "fig3", "fig11", "fig12"} <= set(CLAIMS.figures("recorded"))


#: claims of the text that the published numbers contradict
PUBLISHED_FAIL = {
    "preconditioning-probe-falls-with-every-layer",
    "contracting-depth-lowers-loss",
    "contracting-target-probe",
    "linear-softmax-preconditioning-with-every-layer",
}


@pytest.mark.parametrize("claim", CLAIMS.claims, ids=lambda claim: claim.name)
def test_claims_name_what_there_is(claim: Any) -> None:
    assert claim.sentence.endswith(".") and "paper" in claim.scales
    for selection in claim.selections:
        panel = next(panel for panel in figure(selection.figure).panels if panel.name == selection.panel)
        assert all(has_series(panel, name) for name in selection.series)
        depths = [name for name in selection.series if name.startswith("layer ")]
        deepest = 7 if any("softmax-d7" in source.run for source in panel.sources) else 6
        assert all(int(name.removeprefix("layer ")) <= deepest for name in depths), "as many as the model has"
    if claim.published:
        assert claim.bound.holds(claim.published.value) is (claim.name not in PUBLISHED_FAIL), "what the published numbers say"


def test_series_are_checked_to_the_letter() -> None:
    panels = {panel.name: panel for panel in figure("fig2").panels}
    assert has_series(panels["structure_lsa-d1_trained_QK"], "above_5pct")
    assert not has_series(panels["structure_lsa-d1_trained_QK"], "above_6pct")
    assert not has_series(panels["layer_1_head_1_QK"], "LSA-1"), "a picture of weights has no curves"
    probes = next(panel for panel in figure("fig3").panels if panel.name == "target_probe")
    assert has_series(probes, "layer 6") and not has_series(probes, "layer six")


def test_published_curves_belong_to_series_of_ours() -> None:
    entries = read_entries(ROOT)
    assert {entry.figure for entry in entries} == {f"fig{number}" for number in (2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 17)}
    assert len({(entry.figure, entry.panel, entry.series) for entry in entries}) == len(entries)


def put(*path: str, value: Any) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        place = content
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return change


def on(*path: str, value: Any) -> Callable[[dict], None]:
    return put("claims", ONE, *path, value=value)


WRONG = {
    "statistic": (on("statistic", value="ratios"), f"{ONE}: unknown statistic 'ratios': did you mean 'ratio'?"),
    "topic": (on("topic", value="one-layr"), f"{ONE}: unknown topic 'one-layr': did you mean 'one-layer'?"),
    "figure": (on("of", "figure", value="fig222"), f"{ONE}: of: unknown figure 'fig222': did you mean 'fig22'?"),
    "panel": (on("of", "panel", value="mse_l"), f"{ONE}: of: unknown panel of fig2 'mse_l': did you mean 'mse_1'?"),
    "series": (on("of", "series", value="LSA1"), f"{ONE}: of: unknown series of mse_1 'LSA1': did you mean 'LSA-1'?"),
    "key": (on("bounds", value={"below": 1}), f"{ONE}: unknown key 'bounds': did you mean 'bound'?"),
    "key of a selection": (on("of", "pannel", value="mse_1"), "unknown key 'pannel': did you mean 'panel'?"),
    "no bound": (on("bound", value={}), f"{ONE}: bound: {{}} should be non-empty"),
    "two bounds": (on("bound", value={"below": 1, "above": 0}), f"{ONE}: bound"),
    "bound upside down": (on("bound", value={"between": [2, 1]}), f"{ONE}: bound between 2 and 1: the first must be smaller"),
    "bound in words": (on("bound", value={"below": "little"}), f"{ONE}: bound: below: 'little' is not of type 'number'"),
    "bound that is no number": (on("bound", value={"below": float("nan")}), "must be a finite number"),
    "x upside down": (on("of", "x", value=[50, 1]), f"{ONE}: of: x from 50 to 1: the first is larger"),
    "x in words": (on("of", "x", value="first"), f"{ONE}: of: x"),
    "nothing to hold against": (put("claims", ONE, "statistic", value="mean"), f"{ONE}: mean does not take curves"),
    "scale": (on("scales", value=["recorded"]), f"{ONE}: scales: 0: 'recorded' is not one of paper, gpu, laptop, smoke"),
    "view": (on("views", value={"hold": "x"}), f"{ONE}: views: unknown verdict 'hold': did you mean 'holds'?"),
    "long sentence": (on("claim", value="x" * 111), f"{ONE}: claim"),
    "several series": (
        put("claims", "depth-lowers-loss", "statistic", value="place_of_minimum"),
        None,
    ),
    "one series": (put("claims", "six-layers-loss", "statistic", value="place_of_minimum"), "needs several series"),
    "unequal sides": (on("of", "series", value=["LSA-1", "GD-1"]), None),
    "unequal sides of a paired statistic": (
        put("claims", "one-layer-is-gd-everywhere", "of", "series", value=["LSA-1", "GD-1"]),
        "largest_gap compares series one by one: 2 and 1 are given",
    ),
    "change of no claim": (
        put("changes", value=[{"claim": "one-layer", "date": "2026-01-01", "what": "a", "why": "b"}]),
        "changes: unknown claim 'one-layer'",
    ),
    "change without a reason": (put("changes", value=[{"claim": ONE, "date": "2026-01-01", "what": "a"}]), "'why' is a required"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("config", "workflow/schemas"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_in_claims(project: Path, case: str) -> None:
    change, expected = WRONG[case]
    content = copy.deepcopy(SHIPPED)
    change(content)
    (project / "config/claims.yaml").write_text(yaml.safe_dump(content))
    if expected is None:
        assert read_claims(project).claims
        return
    with pytest.raises(InputError) as error:
        read_claims(project)
    assert str(error.value).startswith("claims.yaml: ") and expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("figure", "fig222", "curve 1: unknown figure 'fig222': did you mean 'fig22'?"),
        ("panel", "mse_2", "curve 1: unknown panel of fig2 'mse_2': did you mean 'mse_1'?"),
        ("series", "LSA-7", "curve 1: unknown series of training_loss_1 'LSA-7': did you mean 'LSA-1'?"),
        ("file", "../elsewhere.csv", "curves: 0: file: '../elsewhere.csv' does not match"),
        ("wher", {}, "unknown key 'wher': did you mean 'where'?"),
        ("reach", [1], "curves: 0: reach: [1] is too short"),
    ],
)
def test_mistakes_in_published_curves(project: Path, key: str, value: Any, expected: str) -> None:
    content = read_yaml(ROOT / "config/published.yaml")
    content["curves"][0][key] = value
    (project / "config/published.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as error:
        read_entries(project)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_every_word_of_the_files_is_explained() -> None:
    text = (ROOT / "config/README.md").read_text()
    for schema in ("claims", "published"):
        for word in _keys(read_yaml(ROOT / f"workflow/schemas/{schema}.schema.yaml")):
            assert f"`{word}`" in text, word
    assert all(f"`{name}`" in text for name in (*STATISTICS, *VERDICTS, "published_tables", "agreement_without"))


def _keys(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_keys, schema), set())
    if not isinstance(schema, dict):
        return set()
    named = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return named.union(*(_keys(value) for value in schema.values()))
