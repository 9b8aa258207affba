"""The trained runs of the page: histories that are there, what figures know of others, settings by which both are found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stage_files import MODELS, TASK, TRAINING
from typed_arrays import read

from mesaopt.browse.trainings import in_words, trainings
from mesaopt.errors import InputError
from mesaopt.spec.run import Run
from mesaopt.store.tables import write_table

RUN = Run("linear/lsa", TASK, MODELS["linear"], TRAINING)
HISTORY = pd.DataFrame({"step": [0, 10, 20], "train_loss": [np.nan, 1.5, 1.0], "test_loss": [2.0, 1.25, 0.75]})


def write_training(folder: Path, run: Run, seed: int) -> None:
    folder = folder / run.name / f"seed-{seed}"
    write_table(HISTORY, "history", folder / "history.parquet")
    (folder / "spec.json").write_text(json.dumps({**json.loads(run.to_json()), "seed": seed}))


@pytest.mark.parametrize("place", ["runs", "weights"])
def test_losses_along_trainings(tmp_path: Path, place: str) -> None:
    """Where trainings are made, and where recorded ones lie."""
    for seed in (11, 1):
        write_training(tmp_path / place, RUN, seed)
    found = trainings(tmp_path, {})
    (run,) = found["runs"]
    assert (run["run"], run["seeds"], run["settings"]["lr"]) == ("linear/lsa", [1, 11], TRAINING.lr)
    curve = run["curves"][0]
    assert read(found["xs"][curve["x"]]).tolist() == [0, 10, 20] and read(curve["test_loss"]).tolist() == [2, 1.25, 0.75]
    assert read(found["xs"][curve["train_x"]]).tolist() == [10, 20] and read(curve["train_loss"]).tolist() == [1.5, 1]
    assert curve["last"] == 0.75


def test_figures_know_of_runs_whose_histories_are_gone(tmp_path: Path) -> None:
    write_training(tmp_path / "runs", RUN, 1)
    other = replace(RUN, training=replace(TRAINING, lr=0.5))
    facts = {"spec": json.loads(RUN.to_json()), "seeds": [1, 11], "hours": {"1": 0.5}}
    records = {
        "fig2": {"runs": {RUN.name: facts}},
        "fig3": {"runs": {RUN.name: {"spec": json.loads(other.to_json()), "seeds": [2]}}},
    }
    found = {(run["settings"]["lr"]): run for run in trainings(tmp_path, records)["runs"]}
    same, changed = found[TRAINING.lr], found[0.5]
    assert (same["seeds"], same["figures"], same["hours"], len(same["curves"])) == ([1, 11], ["fig2"], {"1": 0.5}, 1)
    assert (changed["seeds"], changed["figures"], changed["curves"]) == ([2], ["fig3"], [])


def test_settings_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the JSON of fig2: linear/lsa has no settings of a run") as error:
        trainings(tmp_path, {"fig2": {"runs": {"linear/lsa": {"spec": {"name": "linear/lsa"}}}}})
    assert "\n" not in str(error.value)


def test_layers_in_words() -> None:
    assert in_words(("linear",) * 6) == "6 linear"
    assert in_words(("softmax", "mesa", "mesa")) == "softmax, 2 mesa"
    assert in_words(("mesa",)) == "mesa"
