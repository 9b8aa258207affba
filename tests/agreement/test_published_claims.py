"""Claims on published curves, here made up, by the code that judges ours."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from agreement_tables import ROOT, T, one_layer, shipped, write_figure

from mesaopt.agreement.intervals import HOLDS
from mesaopt.agreement.judge import judge_stage
from mesaopt.agreement.published_claims import contradictions, published_value, published_values
from mesaopt.store.tables import read_table

AVERAGE, EVERYWHERE, COMPRESSES = "one-layer-is-gd", "one-layer-is-gd-everywhere", "one-layer-compresses"
PANELS = {"mse_1": ("LSA-1", "GD-1"), "training_loss_1": ("LSA-1", "Proposition 1")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Published curves whose LSA-1 is 4 % above GD-1, and tables of ours in which it is 1 % below it."""
    for name in ("workflow", "config"):
        (tmp_path / name).mkdir()
    (tmp_path / "workflow/schemas").symlink_to(ROOT / "workflow/schemas")
    (tmp_path / "config/claims.yaml").symlink_to(ROOT / "config/claims.yaml")
    entries = [
        {
            "figure": "fig2",
            "panel": panel,
            "series": series,
            "file": f"{panel}.csv",
            "where": {"model": series},
            "x": "x",
            "y": "y",
        }
        for panel, names in PANELS.items()
        for series in names
    ]
    entries[-1]["x"] = None
    (tmp_path / "config/published.yaml").write_text(yaml.safe_dump({"curves": entries}))
    folder = tmp_path / "published"
    folder.mkdir()
    positions = pd.concat([pd.DataFrame({"model": name, "x": T, "y": y}) for name, y in (("GD-1", 1 / T), ("LSA-1", 1.04 / T))])
    positions.to_csv(folder / "mse_1.csv", index=False)
    steps = np.arange(0, 5001, 100)
    loss = pd.DataFrame({"model": "LSA-1", "x": steps, "y": 0.9})
    pd.concat([loss, pd.DataFrame({"model": ["Proposition 1"], "x": [0], "y": [0.9]})]).to_csv(
        folder / "training_loss_1.csv", index=False
    )
    write_figure(tmp_path / "tables", "fig2", *one_layer())
    return tmp_path


def test_claims_are_computed_on_published_curves(project: Path) -> None:
    found = published_values(project, project / "published", shipped())
    assert found == {AVERAGE: pytest.approx(1.04), EVERYWHERE: pytest.approx(0.04)} | {
        name: found[name] for name in ("one-layer-loss", COMPRESSES)
    }
    assert found[COMPRESSES] == pytest.approx(1), "a horizontal line is compared at the same steps"


def test_a_typed_value_that_the_folder_contradicts_is_named_and_replaced(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = project / "agreement.parquet"
    judge_stage(project, project / "tables", "recorded", [], out, project / "published")
    said = capsys.readouterr().out
    assert "claims.yaml: one-layer-is-gd: 0.993 is typed as the published value; the folder's is 1.04\n" in said
    row = read_table(out, "agreement").set_index("claim").loc[AVERAGE]
    assert row["published"] == pytest.approx(1.04) and row["verdict"] == HOLDS


def test_without_a_folder_what_is_typed_counts(project: Path) -> None:
    out = project / "agreement.parquet"
    judge_stage(project, project / "tables", "recorded", [], out)
    assert read_table(out, "agreement").set_index("claim")["published"][AVERAGE] == 0.993


def test_rounding_is_no_contradiction() -> None:
    [claim] = shipped(AVERAGE).claims
    assert published_value(claim, 0.9925) == 0.993 == published_value(claim, math.nan)
    assert published_value(claim, 0.95) == 0.95
    assert contradictions(shipped(AVERAGE), {AVERAGE: 0.9925}) == [] != contradictions(shipped(AVERAGE), {AVERAGE: 0.95})
