"""The documents: links lead somewhere, files that they name are there, the README is short and says what the tables say."""

import re
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml
from recipes import NEW, recipes
from test_rooms import FLOOR

from mesaopt.figures.registry import FIGURES, figure
from mesaopt.spec import cost, files
from mesaopt.spec.plan import resolve
from mesaopt.spec.settings import KEYS
from mesaopt.spec.yaml_files import read_yaml, typed
from mesaopt.workflow_settings import read_settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "config").glob("*.md"), *(ROOT / "docs").glob("*.md")])
#: everything in which files of the project are named
TEXTS = [
    *PAGES,
    # Snakemake leaves compiled Python beside workflow/memory.py
    *(
        path
        for of in ("config", "workflow")
        for path in (ROOT / of).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    ),
]
FOLDERS = "|".join(("benchmarks", "config", "docs", "src", "tests", "workflow"))
README = (ROOT / "README.md").read_text()


def lines_of(path: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", lines_of(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", lines_of(path)):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        page = (path.parent / target).resolve() if target else path
        assert page.exists() and page.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(page), f"{link}: {sorted(anchors(page))}"


@pytest.mark.parametrize("path", TEXTS, ids=[str(path.relative_to(ROOT)) for path in TEXTS])
def test_files_that_are_named_are_there(path: Path) -> None:
    """Those of the project's folders; a recipe's own new files are not there yet, and that is what it says of them."""
    new = {found["path"] for steps in recipes().values() for step in steps if (found := NEW.match(step.said))}
    for named in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w(?:/|\b)", path.read_text()):
        made_on_the_way = named in new and path.name == "CONTRIBUTING.md"
        assert (ROOT / named).exists() or made_on_the_way or named.startswith("config/environment"), named


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_code_that_is_named_is_there(path: Path) -> None:
    """Files named by their place in the package, and modules; the change log may name what is gone."""
    if path.name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        return
    sources, text = ROOT / "src/mesaopt", path.read_text()
    for named in re.findall(r"`((?:\w+/)*\w+\.(?:py|yaml|cpp))`", text):
        places = [folder / named for folder in (ROOT, sources, *sources.iterdir(), path.parent)]
        assert any(place.exists() for place in places), named
    for module in re.findall(r"(?<!/)\bmesaopt((?:\.\w+)+)", text):
        place = sources.joinpath(*module.split(".")[1:])
        assert place.is_dir() or place.with_suffix(".py").exists(), module


def test_new_files_of_recipes_are_new() -> None:
    for name, steps in recipes().items():
        for step in steps:
            if step.edits:
                assert (ROOT / step.edits["path"]).exists() == (not NEW.match(step.said)), f"{name}: {step.said}"


def test_the_architecture_shows_every_room_on_its_floor() -> None:
    page, sources = (ROOT / "docs/architecture.md").read_text(), ROOT / "src/mesaopt"
    shown = {name: int(floor) - 1 for floor, name in re.findall(r"^\| (\d) \| `([\w.]+)/?`", page, flags=re.MULTILINE)}
    rooms = {path.name for path in sources.iterdir() if (path / "__init__.py").exists()}
    assert shown == {name: FLOOR[name.removesuffix(".py")] for name in rooms | {"errors.py", "__main__.py"}}
    assert all(f"`{path.name}`" in page for path in sources.glob("*.py") if path.name != "__init__.py")


def test_the_readme_is_short_and_begins_with_what_to_type() -> None:
    lines = README.splitlines()
    assert len(lines) <= 140
    assert any(line.startswith("make figures") for line in lines[:30])


def test_the_readme_says_what_the_page_on_agreement_says() -> None:
    page = (ROOT / "docs/agreement.md").read_text()
    claims, holds, fails, undecided = re.search(
        r"^(\d+) claims - holds (\d+), fails (\d+), undecided (\d+)", page, re.MULTILINE
    ).groups()
    assert f"Of {claims} claims of the paper {holds} hold, {undecided} are undecided and {fails} fail" in README


def test_the_readme_says_how_many_claims_are_not_the_papers_alone() -> None:
    sources = [claim["source"] for claim in read_yaml(ROOT / "config/claims.yaml")["claims"].values()]
    text = " ".join(README.split())
    (said,) = re.findall(r"(\d+) claims rest on controls and measurements that this project adds", text)
    assert int(said) == sum("this project" in source for source in sources)


@pytest.mark.parametrize("given", re.findall(r"--config '([^']+)'", README))
def test_the_readme_changes_settings_that_there_are(given: str) -> None:
    key, _, value = given.partition("=")
    settings = read_settings(ROOT, {key: yaml.safe_load(value)})
    plan = resolve(settings.experiments, settings.scales, settings.config, "laptop")
    assert (
        plan != resolve(settings.experiments, settings.scales, settings.config | {key: KEYS[key].default}, "laptop")
        or key == "style"
    )


def test_the_entry_of_the_readme_is_the_run_that_its_command_changes() -> None:
    """At the laptop scale, beside the run as it was, in the panel that it says."""
    (entry,) = re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    (change,) = re.findall(r"--config 'runs=([^']+)'", README)
    text = (ROOT / "config/experiments.yaml").read_text()
    experiments = typed(yaml.safe_load(text.replace("\nruns:\n", f"\nruns:\n{entry}", 1)))
    settings = read_settings(ROOT, {"runs": yaml.safe_load(change)})
    plan = resolve(experiments, settings.scales, settings.config, "laptop")
    new, changed = (plan.run(f"linear/{name}") for name in ("lsa-d6-half", "lsa-d6"))
    assert (new.task, new.model, new.training) == (changed.task, changed.model, changed.training)
    assert 2 * changed.training.lr == resolve(experiments, settings.scales, {}, "laptop").run("linear/lsa-d6").training.lr
    panels = {panel.name: panel for panel in figure("fig3", plan.looks).panels}
    assert {"LSA-6", plan.looks[new.name].label} <= {source.series for source in panels["mse_depth"].sources}


def numbers(words: str) -> set[int]:
    """Those of `1 to 3, 6 and 9`."""
    found = re.findall(r"(\d+)(?: to (\d+))?", words)
    return {number for first, last in found for number in range(int(first), int(last or first) + 1)}


def test_the_readme_says_which_of_the_papers_figures_there_are() -> None:
    text = " ".join(README.split())
    there = {int(name.removeprefix("fig")) for name in FIGURES if "/" not in name}
    (said,) = re.findall(r"the paper's figures ([^`]*?) as", text)
    assert numbers(said) == there == set(range(1, 29))
    records = ROOT / "results/recorded/records"
    recorded = {str(path.relative_to(records).with_suffix("")) for path in records.rglob("*.json")}
    ((unrecorded, others, but_for),) = re.findall(
        r"\(([^()]*?)\) have no recorded tables yet, nor have (.*?), but for (.*?)\. ", text
    )
    assert numbers(unrecorded) == {number for number in there if f"fig{number}" not in recorded}
    named = tuple(re.findall(r"`([^`]+)`", others))  # a figure, or a folder of them
    said_of = {name for name in FIGURES if name.startswith(named)} - set(re.findall(r"`([^`]+)`", but_for))
    assert said_of == {name for name in set(FIGURES) - recorded if "/" in name}


def test_every_figure_has_a_row_in_the_page_that_the_readme_leads_to() -> None:
    page = (ROOT / "docs/figures.md").read_text()
    assert re.findall(r"^\| [^|]+ \| `figures/([^`]+)\.pdf` \|", page, flags=re.MULTILINE) == list(FIGURES)
    assert "(docs/figures.md)" in README


def panel_patterns() -> dict[str, re.Pattern[str]]:
    """Those of the page on tables, by how they are written there: what stands in braces is a word, a number or one of several."""
    page = (ROOT / "docs/tables.md").read_text().partition("| panels | what |")[2].partition("\n\n")[0]
    panels = [panel for name in FIGURES for panel in figure(name).panels]
    drawn = [panel for panel in panels if panel.kind != "table"]
    words = {
        "panel": "|".join({panel.name for panel in drawn}),
        "probe": "|".join({panel.place for panel in drawn if panel.split}),
        "any": "|".join({panel.name for panel in panels}),
        "run": "[a-z0-9-]+",
        "number": r"\d+",
    }

    def one(braces: re.Match[str]) -> str:
        return f"({braces[1].replace(',', '|') if ',' in braces[1] else words[braces[1]]})"

    written = [text for row in page.splitlines() for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    return {text: re.compile(re.sub(r"\{([^}]+)\}", one, text)) for text in written}


def test_the_page_on_tables_has_every_panel_that_no_figure_draws() -> None:
    patterns = panel_patterns()
    # what only an option of style draws stands there, too
    panels = [panel for name in FIGURES for panel in figure(name).panels if panel not in figure(name).drawn("in_sample")]
    unsaid = {panel.name for panel in panels if not any(pattern.fullmatch(panel.name) for pattern in patterns.values())}
    assert not unsaid
    gone = [text for text, pattern in patterns.items() if not any(pattern.fullmatch(panel.name) for panel in panels)]
    assert not gone


def keys_of(schema: object) -> set[str]:
    """The names of all properties of a JSON schema."""
    if not isinstance(schema, dict):
        return set().union(*map(keys_of, schema)) if isinstance(schema, list) else set()
    return set(schema.get("properties", {})).union(*map(keys_of, schema.values()))


@pytest.mark.parametrize("name", ["experiments", "scales", "rates"])
def test_every_key_of_the_settings_files_is_explained(name: str) -> None:
    text = (ROOT / "config/README.md").read_text()
    schema = cost.SCHEMA if name == "rates" else read_yaml(ROOT / f"workflow/schemas/{name}.schema.yaml")
    assert f"`{name}.yaml`" in text and keys_of(schema)
    assert not {key for key in keys_of(schema) if not re.search(rf"`{key}\b", text)}


def test_the_page_on_language_says_what_the_recorded_tables_say() -> None:
    tables = [pd.read_parquet(ROOT / f"results/recorded/tables/fig{number}.parquet") for number in (26, 27)]
    rows = pd.concat(tables)
    measures = ("loss", "final_score", "final_single_score")
    rows = rows[rows["panel"].isin([f"{name}{depth}" for name in measures for depth in ("", "_2")])].sort_values(
        ["panel", "seed"]
    )
    values = {
        (series, panel.removesuffix("_2")): ", ".join(f"{y:.3f}".replace("-", "−") for y in of["y"])
        for (series, panel), of in rows.groupby(["series", "panel"])
    }
    said = re.findall(
        r"^\| [^|]+ \| (\d\.\d{3}, \d\.\d{3}) \| (−[^|]+) \| (−[^|]+) \|$", (ROOT / "docs/language.md").read_text(), re.MULTILINE
    )
    assert set(said) == {tuple(values[name, measure] for measure in measures) for name, _ in values} and len(said) == 12


def test_every_caption_says_where_the_values_and_their_record_are() -> None:
    for name in FIGURES:
        caption = (ROOT / f"workflow/report/{name.replace('/', '-')}.rst").read_text()
        for file in (files.TABLE, files.RECORD):
            assert f"``{file.place.format(figure=name)}``" in caption, name


def test_the_change_log_is_dated_newest_first() -> None:
    days = [date.fromisoformat(day) for day in re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)]
    assert len(days) >= 4 and days == sorted(set(days), reverse=True)
