"""From a drawn value to its file, rows, stage, settings, equation and code."""

import importlib
import json
import shutil

import pytest
from figure_inputs import SEEDS, write_results

from mesaopt.__main__ import main
from mesaopt.errors import InputError
from mesaopt.figures.collect import collect
from mesaopt.figures.origins import equation, origin
from mesaopt.figures.registry import FIGURES, figure
from mesaopt.figures.where import where_stage
from mesaopt.spec.algorithm import ALGORITHMS
from mesaopt.spec.words import words
from mesaopt.store.environment import PROJECT
from mesaopt.store.tables import read_table


def found(capsys, *words):
    where_stage(*words)
    return capsys.readouterr().out


def test_a_layer_of_a_probe(capsys):
    lines = found(capsys, "fig3", "target_probe", "layer 3", "laptop").splitlines()
    facts = {}
    for line in lines[1:]:
        facts.setdefault(line[:10].strip(), []).append(line[10:])
    assert lines[0] == "fig3 target_probe, layer 3: rows of results/laptop/tables/fig3.parquet"
    assert facts["file"] == ["results/laptop/runs/linear/lsa-d6/seed-{seed}/probes.parquet (seeds 1, 11)"]
    assert facts["rows"] == [
        "target next_token; split in_sample; model trained; batch 0; layer 3 (x: t, y: mse)",
    ]
    assert facts["stage"] == ["python -m mesaopt probe"]
    name, settings = facts["settings"][0].split(": ", 1)
    assert name == "linear/lsa-d6" and json.loads(settings)["model"]["layers"] == ["linear"] * 6
    assert facts["settings"][1].startswith("probe: {")
    assert "least squares" in facts["equation"][0] and "paper, section" in facts["equation"][0]
    assert any(place.startswith("linear: ") for place in facts["of"])


def test_settings_are_those_of_the_scale(capsys):
    paper, smoke = (found(capsys, "fig3", "mse_depth", "LSA-6", scale) for scale in ("paper", "smoke"))
    assert "results/paper/" in paper and '"steps":15000' in paper
    assert "results/smoke/" in smoke and '"steps":15000' not in smoke


def test_what_ships_is_said_by_its_record(capsys):
    """Fig. 3 was recorded in parts, with more seeds than its scale has; figure 26 at another scale."""
    record = json.loads((PROJECT / "results/recorded/records/fig3.json").read_text())
    seeds = ", ".join(map(str, record["seeds"]))
    assert len(record["seeds"]) > 5
    first, file, *lines = found(capsys, "fig3", "target_probe", "layer 3", "recorded").splitlines()
    assert first == "fig3 target_probe, layer 3: rows of results/recorded/tables/fig3.parquet"
    assert file == f"file      results/paper/runs/linear/lsa-d6/seed-{{seed}}/probes.parquet (seeds {seeds}; where it was made)"
    assert any(line.startswith("settings  linear/lsa-d6: {") and '"steps":15000' in line for line in lines)
    language = found(capsys, "fig26", "loss", "one-softmax", "recorded")
    assert "rows of results/recorded/tables/fig26.parquet" in language and "file      results/laptop/runs/text/" in language


def test_settings_are_those_that_the_record_says(capsys, tmp_path):
    """Not those of the clone, which somebody may have changed since."""
    for folder in ("config", "workflow/schemas"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    record = json.loads((PROJECT / "results/recorded/records/fig3.json").read_text())
    record["seeds"], record["runs"]["linear/lsa-d6"]["spec"]["training"]["steps"] = [7, 8], 12345
    (tmp_path / "results/recorded/records").mkdir(parents=True)
    (tmp_path / "results/recorded/records/fig3.json").write_text(json.dumps(record))
    said = found(capsys, "fig3", "target_probe", "layer 3", "recorded", tmp_path)
    assert '"steps":12345' in said and "(seeds 7, 8; where it was made)" in said
    with pytest.raises(InputError, match=r"^fig8 is not recorded: no results/recorded/records/fig8.json; recorded are: fig3$"):
        where_stage("fig8", scale="recorded", project=tmp_path)


def test_settings_are_read_as_the_workflow_reads_them(capsys, tmp_path):
    """A power of ten without a point is text to YAML, and a key that is not there has its default."""
    for folder in ("config", "workflow/schemas"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    (tmp_path / "config/config.yaml").write_text("scale: smoke\nruns: {linear/lsa-d6: {training: {lr: 2e-4}}}\n")
    said = found(capsys, "fig3", "target_probe", "layer 3", None, tmp_path)
    assert '"lr":0.0002' in said and "results/smoke/" in said
    (tmp_path / "config/config.yaml").write_text("seeds: 1\n")
    with pytest.raises(InputError, match=r"^config: seeds: 1 is no list: write seeds=\[1\]$"):
        where_stage("fig3", project=tmp_path)


@pytest.mark.parametrize("scale", ["smoke", "recorded"])
def test_a_layer_that_the_model_lacks(scale):
    with pytest.raises(InputError, match=r"^unknown series of fig3 target_probe 'layer 9': linear/lsa-d6 has 6 layers$"):
        where_stage("fig3", "target_probe", "layer 9", scale)


def test_an_algorithm_says_its_equation_and_its_file_that_all_seeds_share(capsys):
    text = found(capsys, "fig2", "eta", "GD-1")
    assert "theory/linear/gd1/parameters.parquet\n" in text and "Proposition 1" in text and "python -m mesaopt learn" in text


def test_runs_that_stand_behind_another(capsys):
    text = found(capsys, "fig3", "training_loss_6", "Interpolation-6")
    assert "settings  linear/lsa-d6-second" in text and "settings  linear/lsa-d6-extract" in text


def test_fewer_words_list_what_there_is(capsys):
    panels = found(capsys, "fig2")
    assert all(panel.name in panels for panel in figure("fig2").panels) and "(in the table alone)" in panels
    assert "LSA-6" in found(capsys, "fig3", "mse_depth") and "layer {layer}" in found(capsys, "fig3", "target_probe")
    assert "block_strength" in found(capsys, "fig2", "structure_lsa-d1_trained_QK")
    assert "from no data" in found(capsys, "fig1", "schematic")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fig33"], "unknown figure 'fig33': did you mean 'fig3'?"),
        (["fig3", "target_prob"], "unknown panel of fig3 'target_prob': did you mean 'target_probe'?"),
        (["fig3", "mse_depth", "LSA-66"], "unknown series of fig3 mse_depth 'LSA-66': did you mean 'LSA-6'?"),
        (["fig3", "target_probe", "layer x"], "unknown series of fig3 target_probe 'layer x': did you mean 'layer {layer}'?"),
        (["fig3", "--scale", "lapto"], "unknown scale 'lapto': did you mean 'laptop'?"),
    ],
)
def test_unknown_names_in_one_line(words, message, capsys):
    assert main(["where", *words]) == 1
    assert capsys.readouterr().err == f"mesaopt: error: {message}\n"


def test_the_command_line_prints_it(capsys):
    assert main(["where", "fig3", "target_probe", "layer 3", "--scale", "paper"]) == 0
    assert "results/paper/runs/linear/lsa-d6/" in capsys.readouterr().out


def exists(place):
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    return callable(getattr(found, name)) if name else True


def test_every_origin_names_code_that_is_there():
    sources = [source for name in FIGURES for panel in figure(name).panels for source in panel.sources]
    assert {place for source in sources for place in origin(source)[1].code if not exists(place)} == set()
    kinds = (*words("layer"), "gd", "chebyshev")
    kinds = {*kinds, *ALGORITHMS}
    assert all(exists(equation(kind).code) and len(equation(kind).equation) > 20 for kind in kinds)


def test_the_json_of_a_figure_holds_the_same_facts(tmp_path):
    results = write_results(tmp_path, only="fig3")
    collect("fig3", results, SEEDS, tmp_path / "table.parquet", tmp_path / "table.json")
    where = json.loads((tmp_path / "table.json").read_text())["where"]
    assert set(where["panels"]) == set(read_table(tmp_path / "table.parquet", "figure")["panel"])
    assert where["panels"]["target_probe"] == {
        "layer {layer}": {
            "table": "probes",
            "file": "runs/linear/lsa-d6/seed-{seed}/probes.parquet",
            "rows": "target next_token; split in_sample; model trained; batch 0 (x: t, y: mse)",
            "settings": "linear/lsa-d6",
        }
    }
    assert where["tables"]["probes"]["stage"] == "probe" and where["tables"]["loss of an algorithm"]["stage"] == "evaluate-theory"
    for series in where["panels"].values():
        assert all(of["table"] in where["tables"] for of in series.values())


def test_the_json_holds_the_equations_of_the_layers_behind_it(tmp_path):
    results = write_results(tmp_path, only="fig1")
    for seed in SEEDS:
        (results / f"runs/linear/lsa-d6/seed-{seed}/spec.json").write_text(
            json.dumps({"model": {"layers": ["linear", "linear"]}})
        )
    collect("fig1", results, SEEDS, tmp_path / "table.parquet", tmp_path / "table.json")
    kinds = json.loads((tmp_path / "table.json").read_text())["where"]["kinds"]
    assert list(kinds) == ["linear"] and kinds["linear"]["code"] == equation("linear").code
