"""The weights that ship with the project give the values that ship with it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from workflow_folder import ROOT, copy_workflow, snakemake

TABLE = "results/recorded/runs/linear/hybrid/seed-1/attention.parquet"


def test_attention_read_out_of_recorded_weights_is_that_of_the_recorded_figure(tmp_path: Path) -> None:
    """Bit for bit on the machine that recorded it; processors round differently."""
    clone = copy_workflow(tmp_path / "clone")
    shutil.copytree(ROOT / "results/recorded", clone / "results/recorded")
    snakemake(clone, TABLE, "--config", "scale=recorded")
    made = pd.read_parquet(clone / TABLE).query("model == 'trained' and batch == 0")
    drawn = pd.read_parquet(ROOT / "results/recorded/tables/fig15.parquet").query("seed == 1")
    for head in range(1, 5):
        both = drawn[drawn["panel"] == f"attention_{head}"].merge(
            made[made["head"] == head], left_on=["x", "y"], right_on=["token", "t"]
        )
        assert len(both) == 50 * 51 // 2 and both["value"].std() > 0.01
        np.testing.assert_allclose(both["value"], both["weight"], atol=1e-5)
