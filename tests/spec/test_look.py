"""What entries of experiments.yaml say about labels and colours, and that it is no part of a run."""

import copy
from pathlib import Path

import pytest

from mesaopt.errors import InputError
from mesaopt.spec.look import FAMILIES, KEYS, LINES, Look, looks_from
from mesaopt.spec.plan import looks, resolve
from mesaopt.spec.yaml_files import check, read_yaml

ROOT = Path(__file__).parents[2]
EXPERIMENTS, SCALES, CONFIG = (read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales", "config"))


def plan(experiments, config=None):
    return resolve(experiments, SCALES, CONFIG | (config or {}), "smoke")


def changed(part, name, **entry):
    experiments = copy.deepcopy(EXPERIMENTS)
    experiments[part][name] |= entry
    return experiments


def test_series_are_called_as_in_the_recorded_tables():
    found = looks(EXPERIMENTS)
    expected = {
        "linear/lsa-d1": "LSA-1",
        "linear/lsa-d6-second": "LSA-6",
        "contracting/lsa-d4": "LSA-4",
        "linear/mesa-d1-long": "Mesa-1",
        "linear/gd1": "GD-1",
        "fixed_teacher/gd1-learned": "GD-1, learned",
        "contracting/proposition2": "Proposition 2",
        "linear/proposition2-published": "Proposition 2 (published form)",
    }
    assert {name: found[name].label for name in expected} == expected
    assert (found["linear/lsa-d6"].family, found["linear/lsa-d6"].depth) == ("linear", 6)
    assert found["linear/mesa-d1"].family == "mesa" and found["linear/gd1"].family == "gd"


def test_looks_are_no_part_of_a_run():
    plain = copy.deepcopy(EXPERIMENTS)
    for part in ("runs", "theory"):
        plain[part] = {name: {key: v for key, v in entry.items() if key not in KEYS} for name, entry in plain[part].items()}
    with_looks, without = plan(EXPERIMENTS), plan(plain)
    assert with_looks.runs == without.runs and with_looks.theory == without.theory
    assert with_looks.looks != without.looks
    assert without.looks["linear/lsa-d6"].label == "lsa-d6"  # the short name


def test_an_entry_alone_draws_another_family():
    experiments = copy.deepcopy(EXPERIMENTS)
    softmax = {**EXPERIMENTS["models"]["lsa"], "layers": ["softmax"], "tokens": "raw"}
    training = {"lr": 8e-4, "batch": 256, "steps": 10}
    entry = {
        "task": "linear",
        "depth": 7,
        "model": softmax,
        "training": training,
        "label": "Softmax-{depth}",
        "family": "softmax",
    }
    experiments["runs"]["linear/other-d{depth}"] = entry
    check(experiments, read_yaml(ROOT / "workflow/schemas/experiments.schema.yaml"), "experiments.yaml")
    assert looks(experiments)["linear/other-d7"] == Look("Softmax-7", "softmax", 7)


@pytest.mark.parametrize(
    ("layers", "family"),
    [
        (["softmax", "mesa"], "hybrid"),
        (["linear", "mesa", "mesa"], "linear-mesa"),
        (["mesa", "mesa"], "mesa"),
        (["softmax"] * 7, "softmax"),
        (["delta"], "other"),
    ],
)
def test_the_default_family_is_that_of_the_layers(layers, family):
    assert Look.of("linear/new", {"model": {"layers": layers}}) == Look("new", family, len(layers))


def test_a_user_may_rename_a_run():
    found = plan(EXPERIMENTS, {"runs": {"linear/lsa-d6": {"label": "Deep", "colour": "#102030"}}}).looks
    assert found["linear/lsa-d6"] == Look("Deep", "linear", 6, "#102030") and found["linear/lsa-d4"].label == "LSA-4"


@pytest.mark.parametrize(
    ("part", "name", "entry", "message"),
    [
        ("runs", "linear/lsa-d1", {"label": 7}, "linear/lsa-d1: label must be text, not 7"),
        ("runs", "linear/lsa-d1", {"label": " "}, "linear/lsa-d1: label must be text, not ' '"),
        ("runs", "linear/lsa-d1", {"label": "LSA-{dept}"}, "linear/lsa-d1: label 'LSA-{dept}': '{' has no place in it"),
        (
            "runs",
            "linear/lsa-d1",
            {"family": "softmx"},
            "linear/lsa-d1: family: unknown family 'softmx': did you mean 'softmax'?",
        ),
        ("theory", "linear/gd1", {"line": "dots"}, "linear/gd1: line: unknown line 'dots'"),
        ("theory", "linear/gd1", {"colour": "red"}, "linear/gd1: colour must be #rrggbb, in quotes, not 'red'"),
        ("theory", "linear/gd1", {"lable": "GD"}, "linear/gd1: "),
    ],
)
def test_misspelt_looks_in_one_line(part, name, entry, message):
    with pytest.raises(InputError) as error:
        plan(changed(part, name, **entry))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_misspelt_key_of_a_run_is_refused_by_the_schema():
    with pytest.raises(InputError, match="unknown key 'lable': did you mean 'label'"):
        schema = read_yaml(ROOT / "workflow/schemas/experiments.schema.yaml")
        check(changed("runs", "linear/lsa-d1", lable="GD"), schema, "experiments.yaml")


def test_looks_travel_as_mappings():
    given = {"a": Look("A", "softmax", 7, "#102030", "dotted"), "b": Look("B")}
    assert looks_from({name: look.to_dict() for name, look in given.items()}, "here") == given
    assert given["b"].to_dict() == {"label": "B"}
    for wrong in ([], {"a": 1}, {"a": {"labl": "A"}}, {"a": {}}):
        with pytest.raises(InputError, match="here: must be a mapping"):
            looks_from(wrong, "here")


def test_the_documents_name_every_family_and_line():
    text = (ROOT / "config/README.md").read_text()
    rows = {row.split("|")[1].strip(): row for row in text.splitlines() if row.startswith("| `")}
    assert all(f"`{family}`" in rows["`family`"] for family in FAMILIES)
    assert all(f"`{line}`" in rows["`colour`, `line`"] for line in LINES)
