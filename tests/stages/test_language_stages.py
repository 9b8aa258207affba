"""What is measured of trained language models, against plain loops."""

import json
import math

import numpy as np
import pytest
import torch

from mesaopt.__main__ import main
from mesaopt.analyses.language_attention import copy_table, map_table, mean_map
from mesaopt.data.shards import tokenise_stage
from mesaopt.data.windows import Tokens, repeated
from mesaopt.models.language_measures import score
from mesaopt.spec.language import LanguageMeasures, LanguageModel, LanguageRun, LanguageTraining
from mesaopt.spec.text import Text
from mesaopt.stages.evaluate_language import read_model, single_score
from mesaopt.store.tables import read_table
from mesaopt.training.language import LanguageOptions, train_language

FEW = LanguageMeasures(sequences=5, repeated=3, maps=4, map_length=8)


@pytest.mark.parametrize(("length", "early", "late"), [(1024, 50, 500), (512, 50, 500), (256, 12, 125)])
def test_single_positions_are_the_published_ones_where_the_context_has_them(length, early, late):
    curve = np.arange(1.0, length + 1)
    assert single_score(curve) == late - early


def test_windows_of_the_score_are_scaled_as_if_1024_were_the_end_of_the_context():
    assert score(np.arange(1.0, 513)) == 250 - 25


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with tokens, and weights of models that begin with softmax and with mesa."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": f"{n} comes before {n + 1}"}) + "\n" for n in range(80)))
    text = Text("text", ("folder",), context_length=16, path=str(folder), validation=0.2)
    tokenise_stage(text, folder / "tokens/tokens.json", {})
    for first in ("softmax", "mesa"):
        model = LanguageModel((first, "linear"), d_model=8, n_heads=2, d_head=4, nu=1, init_std=0.3)
        run = LanguageRun(f"text/{first}", text, model, LanguageTraining(tokens=64, batch=2, test_every=2, test_sequences=2))
        options = LanguageOptions(folder / "checkpoints", progress="none")
        train_language(run, 1, folder / "tokens/tokens.json", folder / first / "seed-1", options)
    return folder, text


def stage(folder, name, first, *written):
    words = ["--weights", folder / first / "seed-1/weights.safetensors", "--tokens", folder / "tokens/tokens.json"]
    return main([name, *map(str, words), "--settings", FEW.to_json(), *map(str, written)])


def test_loss_and_measures_are_those_of_plain_loops(trained, tmp_path):
    folder, text = trained
    assert (
        stage(folder, "evaluate-language", "softmax", "--loss", tmp_path / "l.parquet", "--measures", tmp_path / "m.parquet") == 0
    )
    _, model = read_model(folder / "softmax/seed-1/weights.safetensors", 257, "cpu")

    def losses(windows):
        with torch.no_grad():
            chances = model(windows[:, :-1]).double().softmax(-1)
        return np.array([[-math.log(chances[i, t, windows[i, t + 1]]) for t in range(16)] for i in range(len(windows))])

    own = losses(Tokens(folder / "tokens/tokens.json", "validation", text).windows(0, "evaluation", 0, 5)).mean(0)
    control = losses(repeated(257, 16, 3, 0)).mean(0)
    assert read_table(tmp_path / "l.parquet", "language_loss")["loss"].to_numpy() == pytest.approx(own, rel=1e-5)
    found = read_table(tmp_path / "m.parquet", "language_measures").set_index("measure")["value"]
    assert found["loss"] == pytest.approx(own.mean(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(own.mean()), rel=1e-5)
    # of 17 tokens the first 9 are new, and predictions 9 to 16 (from 0: 9 to 15) are of tokens 10 to 17, which came before
    assert found["repeated_first"] == pytest.approx(control[:8].mean(), rel=1e-5)
    assert found["repeated_second"] == pytest.approx(control[9:].mean(), rel=1e-5)


def test_attention_is_the_mean_over_sequences(trained, tmp_path):
    folder, text = trained
    written = ("--out", tmp_path / "a.parquet", "--copies", tmp_path / "c.parquet")
    assert stage(folder, "language-attention", "softmax", *written) == 0
    _, model = read_model(folder / "softmax/seed-1/weights.safetensors", 257, "cpu")
    windows = Tokens(folder / "tokens/tokens.json", "validation", text).windows(0, "maps", 0, 4)[:, :8]
    with torch.no_grad():
        weights = model.blocks()[0].attention_weights(model.embed(windows)).double()
    found = read_table(tmp_path / "a.parquet", "language_attention").set_index(["head", "t", "token"])["weight"]
    assert len(found) == 2 * 36 and found[(2, 8, 3)] == pytest.approx(float(weights[:, 1, 7, 2].mean()), rel=1e-5)
    assert found.groupby(level=["head", "t"]).sum().to_numpy() == pytest.approx(1.0)
    copies = read_table(tmp_path / "c.parquet", "copy_heads").set_index("head")
    for head in (1, 2):
        by_offset = {
            offset: torch.stack([weights[:, head - 1, t, t - offset] for t in range(3, 8)], 1).mean(1) for offset in (1, 2, 3)
        }
        best = max(by_offset, key=lambda offset: float(by_offset[offset].mean()))
        assert copies.loc[head, "offset"] == best
        assert copies.loc[head, "weight"] == pytest.approx(float(by_offset[best].mean()), rel=1e-5)
        assert copies.loc[head, "deviation"] == pytest.approx(float(by_offset[best].std()), rel=1e-4)
    assert copies.loc[0, "weight"] == copies.loc[[1, 2], "weight"].max()


def test_a_head_that_copies_is_found():
    weights = torch.zeros(3, 2, 6, 6, dtype=torch.float64)
    for t in range(6):
        weights[:, 0, t, t] = 1  # looks at itself: no copy of an earlier token
        weights[:, 1, t, max(0, t - 2)] = 1
    found = copy_table([weights[:2], weights[2:]]).set_index("head")
    assert list(found.loc[2, ["offset", "weight", "deviation"]]) == [2, 1.0, 0.0]
    assert found.loc[1, "weight"] == 0 and list(found.loc[0, ["offset", "weight"]]) == [2, 1.0]
    table = map_table(mean_map([weights]))
    assert len(table) == 2 * 21 and set(table["weight"]) == {0.0, 1.0}


def test_maps_are_of_softmax_alone(trained, tmp_path, capsys):
    folder, _ = trained
    assert stage(folder, "language-attention", "mesa", "--out", tmp_path / "a", "--copies", tmp_path / "c") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "begin with a layer of softmax attention, not mesa" in said
    assert not list(tmp_path.iterdir())


def test_weights_of_another_model_are_one_line(trained, tmp_path, capsys):
    folder, _ = trained
    (tmp_path / "seed-1").mkdir()
    for name, first in (("spec.json", "softmax"), ("weights.safetensors", "mesa")):
        (tmp_path / "seed-1" / name).write_bytes((folder / first / "seed-1" / name).read_bytes())
    arguments = ["--weights", tmp_path / "seed-1/weights.safetensors", "--tokens", folder / "tokens/tokens.json"]
    assert main(["evaluate-language", *map(str, arguments), "--loss", "a", "--measures", "b"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "weights of another model" in said


def test_a_training_is_called_by_its_command(trained, tmp_path, capsys):
    folder, text = trained
    model = LanguageModel(("linear",), d_model=8, n_heads=2, d_head=4, nu=1)
    run = LanguageRun("text/linear", text, model, LanguageTraining(tokens=64, batch=2, test_every=2, test_sequences=2))
    arguments = ["--tokens", folder / "tokens/tokens.json", "--spec", run.to_json(), "--checkpoints", tmp_path / "c"]
    weights = tmp_path / "seed-3/weights.safetensors"
    assert main(["train-language", *map(str, arguments), "--weights", str(weights), "--device", "cpu"]) == 0
    assert json.loads((weights.parent / "spec.json").read_text())["seed"] == 3
    assert "tokens/s" in capsys.readouterr().err
    assert main(["train-language", *map(str, arguments), "--weights", str(weights), "--threads", "0"]) == 1
    assert main(["train-language", *map(str, arguments), "--weights", "seed-x/weights.safetensors"]) == 1
    assert "seed-x/weights.safetensors: must end in seed-N" in capsys.readouterr().err
