"""The page: one file of bounded size that loads nothing, with the verdicts of the judge; plotly is of this stage alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from agreement_tables import one_layer, write_figure

from mesaopt.__main__ import main
from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.judge import judge
from mesaopt.agreement.selections import Tables
from mesaopt.browse.page import browse_stage, page_data, plotly
from mesaopt.errors import InputError
from mesaopt.spec.stages import STAGES

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src/mesaopt"
MB = 1024**2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "browse.html"
    browse_stage(ROOT, ROOT / "results/recorded", "recorded", out)
    return out.read_text(encoding="utf-8")


def test_it_is_small_enough_to_open_at_once(page: str) -> None:
    """15 MB for 31 figures: the 14 that are recorded, with ten seeds of the largest, take half of that and plotly's 5 MB."""
    assert len(page.encode()) < 10 * MB


def test_it_loads_nothing(page: str) -> None:
    own = page.replace(plotly(), "")
    assert len(own) < len(page) - 4 * MB, "plotly stands in it as it is"
    assert not re.search(r"(?:src|href|action)\s*=", own.replace("href: `#", "")) and "<link" not in page and "@import" not in own
    assert not re.search(r"https?://", own)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy and policy[1].startswith("default-src 'none';") and "form-action 'none'" in policy[1]
    assert "http" not in policy[1]


def test_text_of_tables_cannot_end_the_data(tmp_path: Path) -> None:
    rows = [frame.assign(series="</script><script>alert(1)") for frame in one_layer()[:1]]
    write_figure(tmp_path / "tables", "fig2", *rows)
    browse_stage(ROOT, tmp_path, "smoke", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text().replace(plotly(), "")
    assert "</script><script>alert" not in text and text.count("</script>") == 3


def test_verdicts_are_the_judges() -> None:
    tables = Tables(ROOT / "results/recorded/tables")
    judged = judge(read_claims(ROOT), tables, "recorded").set_index("claim")
    found = {claim["name"]: claim for claim in page_data(ROOT, ROOT / "results/recorded", "recorded")["claims"]}
    assert list(found) == list(judged.index)
    assert {name: claim["verdict"] for name, claim in found.items()} == judged["verdict"].to_dict()
    assert len(set(judged["verdict"])) > 3


def test_points_of_published_tables_are_shown(tmp_path: Path) -> None:
    write_figure(tmp_path / "tables", "fig2", *one_layer())
    rows = ["model,seed,t,value", *(f"LSA-1,1,{t},{2 / t}" for t in range(1, 51))]
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "fig4_C_singlelayer_mse_by_position.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(InputError, match="no rows with model GD-1"):
        page_data(ROOT, tmp_path, "paper", folder)
    rows += [f'"GD-1 (Proposition-1, eta=0.032)",1,{t},{2 / t}' for t in range(1, 51)]
    (folder / "fig4_C_singlelayer_mse_by_position.csv").write_text("\n".join(rows) + "\n")
    content = page_data(ROOT, tmp_path, "paper", folder)
    panel = next(one for one in content["figures"][0]["panels"] if one["name"] == "mse_1")
    assert [points["series"] for points in panel["published"]] == ["LSA-1", "GD-1"]


def test_mistakes_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--scale", "smoke", "--out", str(tmp_path / "page.html")]
    assert main(["browse", "--results", str(tmp_path), *arguments]) == 1
    assert capsys.readouterr().err == f"mesaopt: error: {tmp_path}: no table of a figure is here (results/smoke/tables)\n"
    write_figure(tmp_path / "tables", "fig2", *one_layer())
    assert main(["browse", "--results", str(tmp_path), *arguments, "--published", str(tmp_path / "none")]) == 1
    assert "none: no such folder (published_tables)" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_an_environment_that_is_older_than_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match=r"^plotly is not installed here: "):
        plotly()


# --- plotly is of this stage alone
def test_one_file_imports_plotly() -> None:
    def names(path: Path) -> set[str]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        return {
            name.partition(".")[0] for name in plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        }

    assert [path.name for path in SOURCES.rglob("*.py") if "plotly" in names(path)] == ["page.py"]


def test_nothing_else_that_runs_imports_plotly() -> None:
    modules = sorted({entry.module for entry in STAGES} | {"mesaopt.__main__", "mesaopt.workflow_settings"})
    imports = "\n".join(f"import {name}" for name in modules)
    script = f"import sys\n{imports}\nimport seaborn\nprint('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_of_a_table_from_elsewhere(tmp_path: Path) -> None:
    """Without the JSON beside it, which says how runs are called, it is called as in the project's settings."""
    write_figure(tmp_path / "tables", "fig2", *one_layer())
    content = page_data(ROOT, tmp_path, "laptop")
    assert [figure["name"] for figure in content["figures"]] == ["fig2"] and "Figure 3" in content["absent"]
    assert content["trainings"]["runs"] == [] and content["commits"] == []
    judged = {claim["figure"] for claim in content["claims"] if claim["verdict"] != "not run"}
    assert judged == {"fig2"}, "what this table alone decides"
