"""Two trainings matched along their snapshots: tables are those of the models in question."""

import pytest
from stage_files import MODELS, N, run, transformer

from mesaopt.data.sequences import training_batch
from mesaopt.errors import InputError
from mesaopt.models.matching import match, matched
from mesaopt.models.predictors import loss_by_position
from mesaopt.models.products import ProductModel, average
from mesaopt.models.weights import save_weights
from mesaopt.stages.match import match_run
from mesaopt.store.tables import read_table
from mesaopt.training.run_folder import write_spec

#: step: seed of the weights that stand for it
FIRST, SECOND = {0: 3, 20: 6}, {0: 3, 20: 4, 100: 5}


def training(folder, steps, kind="linear", seed=11):
    folder.mkdir()
    write_spec(run(kind), seed, folder / "spec.json")
    weights = {
        f"step-{step}/{name}": tensor
        for step, number in steps.items()
        for name, tensor in transformer(kind, number).seed_weights(0).items()
    }
    save_weights(weights, folder / "snapshots.safetensors")
    return folder / "snapshots.safetensors"


def products(number):
    return ProductModel.from_weights(transformer("linear", number).seed_weights(0), MODELS["linear"], N)


def test_every_row_is_that_of_its_models(tmp_path):
    first, second = training(tmp_path / "first", FIRST), training(tmp_path / "second", SECOND)
    match_run(first, second, tmp_path / "m.parquet", tmp_path / "l.parquet")
    table = read_table(tmp_path / "l.parquet", "matched_loss")
    losses = table[table["batch"] == 0].pivot(index="step", columns="predictor", values="test_loss")
    batches = [training_batch(run("linear").task, [11], 16, "test", i)[0] for i in range(2)]

    def loss(model):
        return pytest.approx(sum(loss_by_position(model, batch).mean().item() for batch in batches) / 2, rel=1e-5)

    end = products(FIRST[20])
    for step, number in SECOND.items():
        trained = products(number)
        assert losses["trained"][step] == loss(trained)
        assert losses["interpolation"][step] == loss(average(end.compress(), trained))
        assert losses["interpolation_matched"][step] == loss(average(matched(end, match(trained, end)).compress(), trained))
    assert losses["between"][20] == loss(average(products(4), end)) and losses["first"][20] == loss(end)
    assert losses["between_matched"][20] == loss(average(products(4), matched(end, match(products(4), end))))
    assert losses["between"].isna().tolist() == [False, False, True], "the first training ended before"


def test_heads_are_counted_and_distances_averaged(tmp_path):
    first, second = training(tmp_path / "first", FIRST), training(tmp_path / "second", SECOND)
    match_run(first, second, tmp_path / "m.parquet", tmp_path / "l.parquet")
    table = read_table(tmp_path / "m.parquet", "matching")
    assert table["step"].unique().tolist() == [0, 20]
    layers, heads = len(MODELS["linear"].layers), MODELS["linear"].n_heads
    for step in (0, 20):
        rows = table[table["step"] == step]
        mean, single = rows[rows["layer"] == 0].iloc[0], rows[rows["layer"] > 0]
        assert len(single) == layers * heads
        assert mean["distance"] == pytest.approx(single["distance"].mean())
        assert mean["matched"] == pytest.approx(single["matched"].mean())
        assert mean["other"] == (single["other"] != single["head"]).sum() and mean["sign"] == (single["sign"] < 0).sum()
        found = match(products(SECOND[step]), products(FIRST[step]))
        by_layer = [tuple(single[single["layer"] == layer]["other"] - 1) for layer in range(1, layers + 1)]
        assert tuple(by_layer) == found.heads and set(single["swapped"]) == {int(found.swapped)}
    assert table[table["step"] == 0]["distance"].max() == 0, "one initialisation"


def test_trainings_of_two_seeds_are_refused(tmp_path):
    first, second = training(tmp_path / "first", FIRST), training(tmp_path / "second", SECOND, seed=1)
    with pytest.raises(InputError, match="trainings that are matched have one task, one model and one seed"):
        match_run(first, second, tmp_path / "m.parquet", tmp_path / "l.parquet")
    assert not (tmp_path / "m.parquet").exists()
