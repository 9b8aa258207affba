"""The page: data of a scale, plotly and a script in one HTML file that asks nothing of any network.

Plotly is imported here alone, by the one job that writes the page.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.curves import read_folder
from mesaopt.agreement.intervals import VERDICTS
from mesaopt.agreement.published_claims import published_values
from mesaopt.browse.figures import figure_of, heading
from mesaopt.browse.trainings import trainings
from mesaopt.browse.verdicts import verdicts
from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.records import read_json
from mesaopt.figures.registry import FIGURES
from mesaopt.spec.files import RECORD, TABLE
from mesaopt.store.tables import atomic_path, read_table

#: parts of the page, beside this file
FRAME, LOOK, SCRIPTS = "page.html", "page.css", ("plots.js", "tables.js", "page.js")


def browse_stage(project: Path, results: Path, scale: str, out: Path, published: Path | None = None) -> None:
    """Write the page of the figure tables, records and histories below `results` at `out`, with the claims of `project`.

    Where there is a folder of `published` tables, their points are shown as well, and claims are computed on them. Raises
    `InputError` in one line when there is no table, when a table or JSON is damaged, and for a folder without published tables.
    """
    content = page_data(project, results, scale, published)
    with atomic_path(out) as temporary:
        temporary.write_text(to_html(content), encoding="utf-8")


def page_data(project: Path, results: Path, scale: str, published: Path | None = None) -> dict[str, Any]:
    """All that the page shows, as JSON has it."""
    tables = {name: results / TABLE.place.format(figure=name) for name in FIGURES}
    here = {name: path for name, path in tables.items() if path.exists()}
    if not here:
        raise InputError(f"{results}: no table of a figure is here (results/{scale}/tables)")
    records = {name: _record(results / RECORD.place.format(figure=name)) for name in here}
    points = [] if published is None else read_folder(project, published)
    claims = read_claims(project)
    theirs = {} if published is None else published_values(project, published, claims)
    style.import_seaborn()
    return {
        "scale": scale,
        "figures": [figure_of(name, read_table(path, "figure"), records[name], points) for name, path in here.items()],
        "absent": [heading(name) for name in FIGURES if name not in here],
        "verdicts": list(VERDICTS),
        "claims": verdicts(claims, results / Path(TABLE.place).parent, scale, theirs),
        "trainings": trainings(results, records),
        "commits": sorted({str(commit)[:8] for record in records.values() for commit in record.get("commits", [])}),
    }


def _record(path: Path) -> dict[str, Any]:
    """The JSON of a figure; of a table without one (from elsewhere) nothing is known."""
    return read_json(path) if path.exists() else {}


def to_html(content: Mapping[str, Any]) -> str:
    """One file: style, plotly, data and scripts stand in it."""
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    parts = {
        "style": _beside(LOOK),
        "scale": content["scale"],
        "data": data,
        "plotly": plotly(),
        "script": "\n".join(map(_beside, SCRIPTS)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _beside(FRAME))


def plotly() -> str:
    """Its script. Raises `InputError` where the package is not installed, as in an environment that is older than the page."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError("plotly is not installed here: `make .venv/runtime`, or pip install -r requirements.txt") from None
    script: str = get_plotlyjs()
    return script


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
