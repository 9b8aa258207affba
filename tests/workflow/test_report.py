"""The report: made without a network, and looked at in a browser. (Figures 1 and 13 at the smoke scale; the long test: all.)"""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from browser import page_after
from workflow_folder import ALL, ROOT, snakemake

from mesaopt.figures.registry import FIGURES
from mesaopt.store.environment import fingerprint, versions

TWO = ("figures/fig1.pdf", "figures/fig13.pdf")
PAGE, BROWSE = "results/smoke/agreement.html", "results/smoke/browse.html"
KINDS = (("figures", "pdf"), ("tables", "parquet"), ("records", "json"))


@pytest.fixture(scope="module")
def report(smoke_figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(smoke_figures, tmp_path_factory.mktemp("report") / "clone", symlinks=True)
    snakemake(folder, PAGE, BROWSE, "--config", "scale=smoke")
    snakemake(folder, "--report", "report.html", *TWO, PAGE, BROWSE, "--config", "scale=smoke")
    return folder / "report.html"


def embedded(report: Path, name: str) -> Any:
    """A value that the page's scripts are given."""
    found = re.search(rf'<script id="{name}">\s*var {name} = (.*?);?\s*</script>', report.read_text(), flags=re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_every_figure_has_its_caption_table_and_provenance(report: Path) -> None:
    results = embedded(report, "results")
    for name in ("fig1", "fig13"):
        picture = results[f"results/smoke/figures/{name}.pdf"]
        caption = (ROOT / f"workflow/report/{name}.rst").read_text().split("**")[1]
        assert caption in picture["caption"]
        assert base64.b64decode(picture["data_uri"].split("base64,")[1]).startswith(b"%PDF")
        table = results[f"results/smoke/tables/{name}.parquet"]
        assert base64.b64decode(table["data_uri"].split("base64,")[1]).startswith(b"PAR1")
        facts = json.loads(base64.b64decode(results[f"results/smoke/records/{name}.json"]["data_uri"].split("base64,")[1]))
        assert facts["environments"] == [fingerprint(versions())]
        assert facts["versions"] == {package: [version] for package, version in versions().items()}


@pytest.mark.parametrize(("name", "part"), [(PAGE, "<h1 id="), (BROWSE, '<script type="application/json" id="data">')])
def test_pages_are_there_to_be_read(report: Path, name: str, part: str) -> None:
    page = embedded(report, "results")[name]
    assert page["mime_type"] == "text/html", "what the report shows, where it offers other files for download"
    assert part in base64.b64decode(page["data_uri"].split("base64,")[1]).decode()


def test_the_runtime_of_every_rule_is_in_the_report(report: Path) -> None:
    html = report.read_text()
    for rule in ("train", "extract", "evaluate_extract_probe", "collect", "draw_fig1"):
        assert re.search(rf'"rule": "{rule}"[^}}]*"runtime": [0-9.]+|"runtime": [0-9.]+[^}}]*"rule": "{rule}"', html), rule


def test_a_browser_finds_the_figures(report: Path) -> None:
    shown = page_after(report, "Figures", "eye")
    assert "<td" in shown and ">fig1<" in shown and ">fig13<" in shown
    assert re.search(r"<(iframe|embed|object)[^>]*data:application/pdf", shown), "the first figure is not shown"


def test_a_browser_shows_the_page_on_agreement(report: Path) -> None:
    assert re.search(r"<(iframe|embed|object)[^>]*data:text/html", page_after(report, "Agreement", "eye"))


def test_a_browser_shows_the_page_to_browse(report: Path) -> None:
    """In an archive, where pages are files: Chromium opens none above 2 MB that stands in another."""
    snakemake(report.parent, "--report", "report.zip", BROWSE, "--config", "scale=smoke")
    with ZipFile(report.with_name("report.zip")) as archive:
        archive.extractall(report.parent / "unpacked")
    page = report.parent / "unpacked/report/report.html"
    shown = re.findall(r'<iframe[^>]* src="([^"]+)"', page_after(page, "Results", "eye"))
    assert len(shown) == 1 and (page.parent / shown[0]).read_bytes() == (report.parent / BROWSE).read_bytes()


@pytest.mark.long
def test_the_report_of_everything_has_every_figure(smoke_all: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(smoke_all, tmp_path / "clone", symlinks=True)
    snakemake(folder, "--report", "report.html", "all", "--config", *ALL)
    names = embedded(folder / "report.html", "results")
    assert {f"results/smoke/{kind}/{figure}.{end}" for figure in FIGURES for kind, end in KINDS} <= set(names)
    shown = page_after(folder / "report.html", "Figures", "eye")
    assert all(f">{figure}<" in shown for figure in FIGURES)


@pytest.mark.parametrize("category", ["Tables", "Environment and provenance"])
def test_a_browser_finds_tables_and_provenance(report: Path, category: str) -> None:
    shown = page_after(report, category)
    assert ">fig1<" in shown and ">fig13<" in shown


def test_the_catalogue_entry_names_what_there_is() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["report"] is True
    assert usage["software-stack-deployment"]["conda"] is (ROOT / "environment.yml").exists()
    assert usage["mandatory-flags"]["flags"] == ""
