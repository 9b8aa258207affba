"""What a scale computes of language models, and what is wrong said in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesaopt.errors import InputError
from mesaopt.figures.families.language import CONTROLS, FOUR, SHIFTED, TWO
from mesaopt.figures.registry import figure, inputs, runs
from mesaopt.spec.cost import language_flops
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.settings import COMPUTED_SCALES
from mesaopt.spec.text import Text
from mesaopt.spec.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]
EVERY = {*SHIFTED, *CONTROLS, *TWO, *FOUR}


def plan(scale: str, **config: Any) -> Plan:
    experiments, scales = (read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales"))
    return resolve(experiments, scales, config, scale)


@pytest.mark.parametrize("scale", COMPUTED_SCALES)
def test_every_scale_has_the_runs_of_the_figures(scale: str) -> None:
    whole = plan(scale)
    found = whole.language
    assert found.runs.keys() == found.looks.keys() == EVERY, "what figures do without can be trained all the same"
    left_out = EVERY - whole.looks.keys()
    assert all(run.endswith("nu3") or "/four-" in run for run in left_out) and bool(left_out) == (scale == "laptop")
    assert all(LanguageRun.from_json(run.to_json()) == run for run in found.runs.values())


def test_models_of_the_paper_have_its_sizes() -> None:
    runs = plan("paper").language.runs
    model = runs["text/four-mesa"].model
    assert model.layers == ("softmax", "mesa", "mesa", "mesa") and model.d_mlp == 4 * model.d_model == 4 * 768
    assert (model.n_heads, model.d_head, model.nu, model.dropout) == (12, 64, 3, 0.1)
    assert runs["text/shift-linear-nu2"].model.nu == 2 and runs["text/shift-mesa-nu0"].model.key_shift == "zero"
    training = runs["text/shift-softmax"]
    assert training.step_tokens == 262144 and training.steps == 20000
    assert all(runs[run].model.layers[0] == "softmax" for run in (*TWO, *FOUR))


def test_models_of_a_panel_differ_in_their_layers_alone() -> None:
    for scale in COMPUTED_SCALES:
        runs = plan(scale).language.runs
        for group in (SHIFTED, TWO, FOUR):
            of = [runs[name] for name in group if name in runs]
            same = {(run.training, run.task, replace(run.model, layers=("softmax",), nu=3)) for run in of}
            assert len(same) <= 1


def test_the_paper_needs_a_text_of_ones_own() -> None:
    assert "text={path: FOLDER}" in str(plan("paper").language.missing_text("text/shift-softmax"))
    own = plan("paper", text={"path": "/data/pile", "column": "content"}).language
    assert own.missing_text("text/shift-softmax") is None
    text = own.runs["text/shift-softmax"].task
    assert (text.corpora, text.path, text.column, text.tokeniser) == (("folder",), "/data/pile", "content", "gpt2")
    assert plan("smoke", text={"path": "x"}).language.texts["text"].megabytes == 0
    assert plan("laptop").language.missing_text("text/shift-softmax") is None


def test_figures_leave_out_what_a_scale_leaves_out() -> None:
    laptop, smoke = plan("laptop").looks, plan("smoke").looks
    assert set(runs("fig26", smoke)) - set(runs("fig26", laptop)) == {"text/shift-linear-nu3", "text/shift-mesa-nu3"}
    panels = {panel.name: panel for panel in figure("fig27", laptop).panels}
    assert not panels["perplexity_4"].sources and len(panels["perplexity_2"].sources) == 3
    assert not any("four" in path for path in inputs("fig28", [1], laptop))


def test_users_change_runs_on_text() -> None:
    changed = plan("smoke", language={"text/two-*": {"training": {"lr": 0.5}}}).language.runs
    assert changed["text/two-mesa"].training.lr == 0.5 != changed["text/four-mesa"].training.lr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"language": {"text/three": {"training": {"lr": 1}}}}, "config: language: unknown name 'text/three'"),
        (
            {"language": {"text/two-mesa": {"model": {"layer": ["mesa"]}}}},
            "text/two-mesa: languagemodel: unknown key 'layer': did you mean 'layers'?",
        ),
        ({"language": {"text/two-mesa": {"training": {"tokens": 0}}}}, "text/two-mesa: tokens must be at least 1"),
        ({"language": {"text/two-mesa": {"model": {"layers": ["meso"]}}}}, "text/two-mesa: unknown layer 'meso'"),
    ],
)
def test_mistakes_are_one_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        plan("smoke", **config)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corpora": ["botocor"]}, "unknown corpus 'botocor': did you mean 'botocore'?"),
        ({"corpora": []}, "must name at least one"),
        ({"corpora": ["folder", "folder"]}, "names one twice"),
        ({"corpora": ["folder"], "tokeniser": "words"}, "unknown tokeniser 'words'"),
        ({"corpora": ["folder"], "validation": 1.0}, "validation must be between 0 and 1"),
    ],
)
def test_impossible_texts_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        Text.from_dict({"name": "text", **settings})


def test_operations_are_six_by_weight_and_what_attention_takes() -> None:
    """Of the paper's four layers with MLPs: 28.3 million numbers in layers, 38.6 million for the vocabulary (LayerNorm aside)."""
    run = plan("paper", text={"path": "x"}).language.runs["text/four-softmax"]
    weights, attention = 28.3e6 + 38.6e6, 3 * 4 * 2 * 1024 * 768
    assert language_flops(run) == pytest.approx(6 * weights + attention, rel=0.01)
