"""The page for who has five minutes: what fails here and in the published numbers, what more seeds would decide, pictures."""

import re

import numpy as np
import pytest
from agreement_tables import ROOT, shipped
from matplotlib.image import imread

from mesaopt.agreement import deciding, page
from mesaopt.agreement.intervals import FAILS, HOLDS, MOST_SEEDS, NOT_RUN, UNDECIDED
from mesaopt.agreement.judge import judge
from mesaopt.agreement.selections import Tables
from mesaopt.figures.draw import draw
from mesaopt.figures.registry import plain

NAMES = ("preconditioning-probe-falls-with-every-layer", "contracting-learning-rate", "one-layer-loss", "six-layers-loss")
PICTURES = [topic.figure for topic in shipped().topics.values() if topic.figure]
RECORDED = ROOT / "results/recorded"


@pytest.fixture
def rows(tmp_path):
    """Two claims that fail, one of them with a published value, and two that are undecided; the others were not run."""
    judged = judge(shipped(), Tables(tmp_path), "recorded")
    planted = [(1.29, 1.03, 1.6, FAILS, np.nan), (0.4, 0.3, 0.5, FAILS, np.nan), (0.9, 0.8, 0.95, UNDECIDED, 23.0),
               (0.2, 0.1, 0.3, UNDECIDED, float(MOST_SEEDS))]  # fmt: skip
    for name, values in zip(NAMES, planted, strict=True):
        judged.loc[judged["claim"] == name, ["estimate", "low", "high", "verdict", "needed"]] = values
        judged.loc[judged["claim"] == name, "seeds"] = 10
    return {str(row.claim): row for row in judged.itertuples()}


def test_of_what_fails_it_is_said_whether_the_published_numbers_do_and_why(rows):
    title, text, table = deciding.failing(shipped(), rows)
    assert title.startswith("## What fails") and "no difference between the two" in text
    probe, rate = table.splitlines()[2:]
    assert "| 1.29 (1.03 to 1.60) | below 1 | 1.9 | fails | The last layers spend" in probe
    assert "| 0.400 (0.300 to 0.500) | 0.75 to 1.25 |  | not known | The released weights do the same" in rate
    assert rows["target-probe-falls-with-depth"].published == 0.66
    assert deciding.published_verdict(rows["target-probe-falls-with-depth"]) == HOLDS


def test_of_what_is_undecided_it_is_said_how_many_seeds_would_decide_the_nearest_first(rows):
    _, text, table = deciding.undecided(shipped(), rows)
    first, second = table.splitlines()[2:]
    assert first.endswith("| 10 | 23 |") and second.endswith(f"| 10 | **{MOST_SEEDS}** |") and str(MOST_SEEDS) in text


def test_where_nothing_fails_or_is_undecided_there_are_no_such_sections(tmp_path):
    rows = {str(row.claim): row for row in judge(shipped(), Tables(tmp_path), "recorded").itertuples()}
    assert {row.verdict for row in rows.values()} == {NOT_RUN}
    assert deciding.failing(shipped(), rows) == deciding.undecided(shipped(), rows) == []


def test_every_topic_says_what_was_asked_and_what_would_change_our_mind(tmp_path):
    text = page.page(shipped(), judge(shipped(), Tables(tmp_path), "recorded"), None, None, "recorded")
    table = text.split("## In five minutes")[1].split("How this was judged")[0]
    lines = [line for line in table.splitlines() if line.startswith("| **")]
    assert len(lines) == len(shipped().topics)
    for line, topic in zip(lines, shipped().topics.values(), strict=True):
        assert topic.question.endswith("?") and topic.doubt.endswith(".") and line.count("|") == 4
        assert line.startswith(f"| **{topic.title}** {topic.question} | ") and line.endswith(f" | {topic.doubt} |")


def test_the_page_shows_the_figures_that_ship_and_no_others():
    text = (ROOT / "docs/agreement.md").read_text()
    shown = re.findall(r"!\[(.+), drawn from the recorded tables\]\(figures/(.+)\.png\)", text)
    assert shown and all(plain(name) == file for name, file in shown)
    assert {f"{file}.png" for _, file in shown} == {path.name for path in (ROOT / "docs/figures").iterdir()}
    for _, file in shown:
        assert (ROOT / f"docs/figures/{file}.png").stat().st_size < 200_000, "pictures of a page, not for print"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if place else []) for place, name in enumerate(PICTURES)]
)
def test_the_pictures_of_the_page_are_those_of_the_recorded_tables(name, tmp_path):
    """`snakemake write_page` draws them."""
    table, record = RECORDED / f"tables/{name}.parquet", RECORDED / f"records/{name}.json"
    if not table.exists():
        pytest.skip(f"{name} is not recorded")
    draw(name, table, record, {"dpi": 100}, tmp_path / "a.png")
    ours, theirs = imread(tmp_path / "a.png"), imread(ROOT / f"docs/figures/{plain(name)}.png")
    assert ours.shape == theirs.shape
    # type is drawn a little differently by other versions of its library
    assert np.abs(ours - theirs).mean() < 0.002
