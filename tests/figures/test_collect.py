"""The table and provenance of a figure, from synthetic results of single seeds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_inputs import LAYERS, N_OBS, POSITIONS, SEEDS, write_results

from mesaopt.errors import InputError
from mesaopt.figures.collect import collect, gather
from mesaopt.figures.controls import STATISTICS
from mesaopt.figures.looks import shipped
from mesaopt.figures.records import describe
from mesaopt.figures.registry import FIGURES, figure, inputs, runs
from mesaopt.spec.look import Look
from mesaopt.store.tables import read_table, write_table


@pytest.fixture
def results(results_of_figures):
    return results_of_figures


@pytest.mark.parametrize("name", FIGURES)
def test_places_of_the_layout_are_the_panels(name):
    places = {place for row in figure(name).layout for place in row}
    for split in ("in_sample", "held_out"):
        drawn = [panel.place for panel in figure(name).drawn(split)]
        assert sorted(drawn) == sorted(places)


@pytest.mark.parametrize("name", ["fig1", "fig2", "fig3", "fig12", "fig13"])
def test_inputs_are_what_collect_opens(name, tmp_path):
    """With exactly these files it works; without any one of them it does not."""
    results = write_results(tmp_path, only=name)
    # hidden files beside them are their digests
    files = {str(path.relative_to(results)) for path in results.rglob("*.*") if not path.name.startswith(".")}
    assert files == set(inputs(name, SEEDS))
    collect(name, results, SEEDS, tmp_path / "table.parquet", tmp_path / "table.json")
    for path in inputs(name, SEEDS)[:: max(1, len(inputs(name, SEEDS)) // 3)]:
        (results / path).rename(results / "elsewhere")
        with pytest.raises(InputError, match=str(results / path)):
            collect(name, results, SEEDS, tmp_path / "other.parquet", tmp_path / "other.json")
        (results / "elsewhere").rename(results / path)
    assert not (tmp_path / "other.parquet").exists()


def test_another_seed_adds_files_and_removes_none():
    for name in FIGURES:
        assert set(inputs(name, [1])) < set(inputs(name, [1, 11])) or set(runs(name).values()) == {"first"}


def test_weights_need_the_first_seed_only():
    assert runs("fig9") == {"linear/lsa-d6": "first"}
    assert runs("fig2")["linear/lsa-d1-weights"] == "first"
    assert runs("fig12")["fixed_teacher/lsa-d1"] == "all"
    assert runs("fig2")["linear/lsa-d1"] == "all"
    assert all("seed-1/" in path for path in inputs("fig9", [1, 11]))


def test_runs_include_those_that_were_compressed():
    assert {"linear/lsa-d6-extract", "linear/lsa-d6-second", "linear/lsa-d6", "linear/mesa-d1"} <= set(runs("fig3"))


def test_unknown_figure_in_one_line():
    with pytest.raises(InputError, match="unknown figure 'fig33': did you mean 'fig3'") as error:
        figure("fig33")
    assert "\n" not in str(error.value)


def test_curve_values_are_those_of_the_files(results):
    table = gather("fig2", results, SEEDS)
    for seed in SEEDS:
        drawn = table[(table["panel"] == "mse_1") & (table["series"] == "LSA-1") & (table["seed"] == seed)]
        loss = read_table(results / f"runs/linear/lsa-d1/seed-{seed}/loss.parquet", "loss")
        own = loss[loss["batch"] == 0]
        np.testing.assert_array_equal(drawn["x"], own["t"])
        np.testing.assert_array_equal(drawn["y"], own["mse"])
    flat = table[(table["panel"] == "training_loss_1") & (table["series"] == "Proposition 1")]
    assert set(flat["y"]) == {0.92} and flat["value"].isna().all()


def test_probe_panels_hold_every_layer_and_both_splits(results):
    table = gather("fig3", results, SEEDS)
    forms = ("target_probe", "preconditioning_probe", "preconditioning_probe_textbook")
    for name in (f"{form}{split}" for form in forms for split in ("", "_held_out")):
        panel = table[table["panel"] == name]
        assert list(panel["series"].unique()) == [f"layer {layer}" for layer in range(LAYERS + 1)]
        assert len(panel) == (LAYERS + 1) * POSITIONS * len(SEEDS)
    probes = read_table(results / "runs/linear/lsa-d6/seed-11/probes.parquet", "probes")
    wanted = probes.query("layer == 3 and target == 'next_token' and split == 'held_out' and model == 'trained'")
    mine = table[(table["panel"] == "target_probe_held_out") & (table["series"] == "layer 3") & (table["seed"] == 11)]
    np.testing.assert_array_equal(mine["y"], wanted.sort_values("t")["mse"])
    for form, target in (("", "preconditioned_input_published"), ("_textbook", "preconditioned_input")):
        chosen = probes.query("layer == 3 and split == 'in_sample' and model == 'trained' and batch == 0")
        wanted = chosen[chosen["target"] == target]
        mine = table[(table["panel"] == f"preconditioning_probe{form}") & (table["series"] == "layer 3") & (table["seed"] == 11)]
        np.testing.assert_array_equal(mine["y"], wanted.sort_values("t")["mse"])


def test_controls_of_probes_are_the_rows_of_other_models_targets_and_batches(results):
    table = gather("fig12", results, SEEDS)
    probes = read_table(results / "runs/fixed_teacher/lsa-d6/seed-11/probes.parquet", "probes")
    for name, rows in {
        "target_probe_untrained": "model == 'untrained' and target == 'next_token' and split == 'in_sample'",
        "preconditioning_probe_held_out_untrained": "model == 'untrained' and target == 'preconditioned_input_published'"
        " and split == 'held_out'",
        "target_probe_shuffled": "model == 'trained' and target == 'shuffled_next_token' and split == 'in_sample' and batch == 0",
        "preconditioning_probe_held_out_shuffled": "model == 'trained' and target == 'shuffled_preconditioned_input_published'"
        " and split == 'held_out'",
    }.items():
        mine = table[(table["panel"] == name) & (table["seed"] == 11)]
        assert len(mine) == (LAYERS + 1) * POSITIONS and mine["value"].isna().all()
        expected = probes.query(f"{rows} and layer == 4").sort_values("t")["mse"]
        np.testing.assert_array_equal(mine[mine["series"] == "layer 4"]["y"], expected)


def test_test_batches_are_cells_of_position_and_batch(results):
    table = gather("fig3", results, SEEDS)
    mine = table[(table["panel"] == "mse_depth_test_batches") & (table["series"] == "Proposition 2")]
    assert len(mine) == 5 * POSITIONS * len(SEEDS) and set(mine["y"]) == {1, 2, 3, 4, 5}
    loss = read_table(results / "theory/linear/proposition2/loss/seed-11.parquet", "loss").set_index(["batch", "t"])["mse"]
    for row in mine[mine["seed"] == 11].itertuples():
        assert row.value == loss[(row.y, row.x)]
    of_probes = table[table["panel"] == "target_probe_test_batches"]
    assert set(of_probes["seed"]) == {SEEDS[0]} and len(of_probes) == (LAYERS + 1) * 5 * POSITIONS


def test_losses_along_a_training_are_on_the_page_as_means_and_in_the_table_batch_by_batch(results):
    table = gather("fig3", results, SEEDS)
    single = table[table["panel"] == "training_loss_6_test_batches"]
    assert set(single["series"]) == {"LSA-6", "Interpolation-6", "CompressedAlg-6"} and set(single["seed"]) == {SEEDS[0]}
    mean = single[single["series"] == "Interpolation-6"].groupby("x")["value"].mean()
    drawn = table.query("panel == 'training_loss_6' and series == 'Interpolation-6' and seed == @SEEDS[0]")
    np.testing.assert_allclose(mean, drawn.set_index("x")["y"], rtol=1e-12)
    assert single.groupby(["series", "x"]).size().eq(2).all()


def test_statistics_of_products_are_cells_of_layer_and_head(results):
    table = gather("fig3", results, SEEDS)
    mine = table[(table["panel"] == "structure_lsa-d6-extract_untrained_OV") & (table["seed"] == 11)]
    assert set(mine["series"]) == set(STATISTICS) and len(mine) == len(STATISTICS) * LAYERS * 4
    file = read_table(results / "runs/linear/lsa-d6-extract/seed-11/structure.parquet", "structure")
    rows = "model == 'untrained' and layer == 5 and head == 2 and product == 'OV' and statistic == 'block_strength'"
    value = mine.query("series == 'block_strength' and x == 5 and y == 2")["value"].item()
    assert value == file.query(rows)["value"].item()


def test_learning_rates_are_those_of_the_weights_and_of_the_line_search(results):
    table = gather("fig2", results, SEEDS)
    rates = table[table["panel"] == "eta"].set_index(["series", "seed"])["y"]
    learned = read_table(results / "theory/linear/gd1/parameters.parquet", "parameters").set_index("parameter")["value"]
    for seed in SEEDS:
        structure = read_table(results / f"runs/linear/lsa-d1/seed-{seed}/structure.parquet", "structure")
        eta = structure.query("statistic == 'eta' and model == 'trained'")["value"].item()
        assert rates["LSA-1", seed] == eta and rates["GD-1", seed] == learned["eta"]
    assert len(rates) == 3 * len(SEEDS)
    assert set(table[table["panel"] == "eta_large_batches"]["seed"]) == {SEEDS[0]}


def test_matrix_panels_hold_the_shown_slots_of_the_first_seed(results):
    table = gather("fig2", results, SEEDS)
    panel = table[table["panel"] == "layer_1_head_2_OV"]
    assert set(panel["seed"]) == {SEEDS[0]} and len(panel) == (3 * N_OBS) ** 2
    used = {*range(N_OBS), *range(2 * N_OBS, 4 * N_OBS)}
    assert set(panel["x"]) == set(panel["y"]) == used
    weights = read_table(results / "runs/linear/lsa-d1-weights/seed-1/weights.parquet", "weights")
    one = weights.query("layer == 1 and head == 2 and product == 'OV' and row == 7 and col == 1")["value"].item()
    assert panel[(panel["y"] == 7) & (panel["x"] == 1)]["value"].item() == one  # x is the column, y the row


def test_in_context_loss_is_that_of_the_last_position(results):
    table = gather("fig1", results, SEEDS)
    mine = table[(table["seed"] == 1) & (table["panel"] == "in_context")]
    losses = read_table(results / "runs/linear/lsa-d6/seed-1/in_context.parquet", "in_context")
    np.testing.assert_array_equal(mine["y"], losses[losses["t"] == POSITIONS]["loss"])
    late = table[(table["seed"] == 1) & (table["panel"] == "in_context_late") & (table["series"] == "layer 2")]
    np.testing.assert_array_equal(late["y"], losses[losses["layer"] == 2].sort_values("t")["loss"])


def test_collecting_twice_gives_the_same_bytes(results, tmp_path):
    for name in ("a", "b"):
        collect("v2/fig4", results, SEEDS, tmp_path / f"{name}.parquet", tmp_path / f"{name}.json")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_rows_that_are_missing_or_double_are_named(tmp_path):
    results = write_results(tmp_path, only="fig1")
    path = results / "runs/linear/lsa-d6/seed-1/in_context.parquet"
    frame = read_table(path, "in_context")
    write_table(pd.concat([frame, frame]), "in_context", path)
    with pytest.raises(InputError, match="several values of loss at the same layer for LSA-6"):
        gather("fig1", results, SEEDS)

    results = write_results(tmp_path, only="fig3")
    path = results / "runs/linear/lsa-d6/seed-1/probes.parquet"
    frame = read_table(path, "probes")
    write_table(frame[frame["target"] != "next_token"], "probes", path)
    with pytest.raises(InputError, match="no rows with target next_token, split in_sample"):
        gather("fig3", results, SEEDS)


def test_a_run_is_called_as_its_entry_says_and_the_json_keeps_it(tmp_path):
    results = write_results(tmp_path, only="fig2")
    looks = shipped() | {"linear/lsa-d1": Look("Softmax-7", "softmax", 7)}
    collect("fig2", results, SEEDS, tmp_path / "table.parquet", tmp_path / "table.json", looks)
    table, record = read_table(tmp_path / "table.parquet", "figure"), json.loads((tmp_path / "table.json").read_text())
    assert list(table[table["panel"] == "mse_1"]["series"].unique()) == ["Softmax-7", "GD-1"]
    assert set(table[table["panel"] == "eta"]["series"]) == {"Softmax-7", "Softmax-7, all slots", "GD-1"}
    assert record["looks"]["linear/lsa-d1"] == {"label": "Softmax-7", "family": "softmax", "depth": 7}
    assert record["looks"]["linear/gd1"] == {"label": "GD-1", "family": "gd"}
    assert set(record["looks"]) == {*runs("fig2"), "linear/gd1"}


def test_weights_of_another_token_width_are_refused(tmp_path):
    results = write_results(tmp_path, only="fig13")
    path = results / "runs/linear/lsa-d1-weights/seed-1/weights.parquet"
    frame = read_table(path, "weights")
    write_table(frame[(frame["row"] < 7) & (frame["col"] < 7)], "weights", path)
    with pytest.raises(InputError, match="no square of 4 by 4 blocks"):
        gather("fig13", results, SEEDS)


def test_no_seeds():
    with pytest.raises(InputError, match="no seeds"):
        gather("fig1", Path("nowhere"), [])  # nothing is opened


def test_what_git_did_not_say_of_one_training_is_unknown_of_the_figure(tmp_path):
    results = write_results(tmp_path, only="fig2")
    assert describe("fig2", results, SEEDS)["dirty"] is False and "git" not in describe("fig2", results, SEEDS)
    unsaid = results / "runs/linear/mesa-d1/seed-11/provenance.json"
    unsaid.write_text(json.dumps({"commit": None, "dirty": None, "git": "fatal: detected dubious ownership"}))
    found = describe("fig2", results, SEEDS)
    assert found["commits"] == ["0123456789abcdef"] and found["dirty"] is None
    assert found["git"] == ["fatal: detected dubious ownership"]


def test_provenance_gathers_what_runs_recorded(tmp_path):
    results = write_results(tmp_path, only="fig2")
    changed = results / "runs/linear/mesa-d1/seed-11/provenance.json"
    changed.write_text(json.dumps({"commit": "fedcba", "dirty": True, "wall_seconds": 3600, "cpu": "another", "device": "cuda"}))
    found = describe("fig2", results, SEEDS)
    assert found["scale"] == "synthetic" and found["seeds"] == list(SEEDS)
    assert found["commits"] == ["0123456789abcdef", "fedcba"] and found["dirty"] is True
    assert found["machines"] == ["a processor", "another"] and found["devices"] == ["cuda"]
    assert found["versions"] == {"numpy": ["2.0"]}
    # one seed of the weights run, two of the four others; 36 s each but for the changed one
    assert found["training_hours"] == pytest.approx((36 * 8 + 3600) / 3600, abs=1e-4)
    assert found["runs"]["linear/lsa-d1-weights"] == {"seeds": [1], "hours": {"1": 0.01}, "spec": {"name": "lsa-d1-weights"}}
    assert found["runs"]["linear/mesa-d1"]["hours"] == {"1": 0.01, "11": 1.0}


def test_seeds_that_were_stacked_in_one_process_share_its_hours(tmp_path):
    results = write_results(tmp_path, only="fig1")
    for seed in SEEDS:
        path = results / f"runs/linear/lsa-d6/seed-{seed}/provenance.json"
        path.write_text(json.dumps({"commit": "a", "wall_seconds": 3600.0, "pack": list(SEEDS)}))
    found = describe("fig1", results, SEEDS)
    assert found["training_hours"] == 1 and found["runs"]["linear/lsa-d6"]["hours"] == {"1": 0.5, "11": 0.5}


def test_provenance_says_what_algorithms_were_learned_with(tmp_path):
    results = write_results(tmp_path, only="fig3")
    for name in ("proposition2", "gd1"):  # gd1 is not in figure 3
        content = {"commit": "a", "seed": 1, "spec": {"name": name}}
        (results / f"theory/linear/{name}").mkdir(exist_ok=True)
        (results / f"theory/linear/{name}/parameters.json").write_text(json.dumps(content))
    assert describe("fig3", results, SEEDS)["algorithms"] == {
        "linear/proposition2": {"seed": 1, "spec": {"name": "proposition2"}}
    }


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_provenance_in_one_line(tmp_path, text):
    results = write_results(tmp_path, only="fig1")
    path = results / "runs/linear/lsa-d6/seed-1/provenance.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"provenance\.json: ") as error:
        describe("fig1", results, SEEDS)
    assert "\n" not in str(error.value)
