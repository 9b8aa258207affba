"""Wrong settings, in-process: every one is refused in one line that names the place and, where it can, what is meant."""

import copy
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wrong_settings import DEEP, FILES, GD, PLANTED, WRONG, model, training

from mesaopt.errors import InputError, unknown
from mesaopt.figures.options import Style
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.run import Model, Run, Training
from mesaopt.spec.settings import KEYS, schema, with_defaults
from mesaopt.spec.yaml_files import check, typed
from mesaopt.workflow_settings import read_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("config", "workflow/schemas"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def plan(root: Path, config: dict[str, Any], scale: str = "laptop") -> Plan:
    settings = read_settings(root, FILES["config"] | config)
    return resolve(settings.experiments, settings.scales, settings.config, scale)


def refusal(root: Path, config: dict[str, Any], scale: str = "laptop") -> str:
    with pytest.raises(InputError) as error:
        plan(root, config, scale)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_settings_that_ship_are_right() -> None:
    for scale in ("paper", "laptop", "smoke"):
        assert DEEP in plan(ROOT, {}, scale).runs


def test_algorithms_are_learned_with_the_scales_first_seed_whatever_part_is_computed() -> None:
    for seeds in (None, [1, 11], [111, 1111, 11111]):
        assert plan(ROOT, {"seeds": seeds}, "paper").learning_seed == 1
    assert plan(ROOT, {"seeds": [111, 1111]}, "paper").seeds == (111, 1111)


@pytest.mark.parametrize("given", [{}, {"scale": "smoke"}, {"seeds": ["3"]}], ids=str)
def test_missing_keys_have_their_defaults(given: dict[str, Any]) -> None:
    config = read_settings(ROOT, given).config
    assert set(config) == set(KEYS)
    assert {key: value for key, value in config.items() if key not in given} == {
        key: about.default for key, about in KEYS.items() if key not in given
    }


def test_spellings_are_numbers_wherever_they_stand() -> None:
    """Of keys as well: Snakemake hands over all that is inside a setting as text."""
    given = {"with": {"n_obs": {"4": "4", "2e-4": ["true", "1.5", "1x"]}}}
    assert typed(given) == {"with": {"n_obs": {4: 4, 2e-4: [True, 1.5, "1x"]}}}


def test_defaults_are_not_shared() -> None:
    with_defaults({})["runs"]["x"] = {}
    assert with_defaults({})["runs"] == {}


def test_the_file_that_ships_says_every_key_with_its_default() -> None:
    assert FILES["config"] == {key: about.default for key, about in KEYS.items()}


@pytest.mark.parametrize("key", KEYS)
def test_a_default_satisfies_its_own_schema(key: str) -> None:
    check({key: KEYS[key].default}, schema(), "config")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings(case: str) -> None:
    config, expected = WRONG[case]
    assert expected in refusal(ROOT, config)


@pytest.mark.parametrize("case", PLANTED)
def test_wrong_files(project: Path, case: str) -> None:
    name, (*path, key), value, expected = PLANTED[case]
    content = copy.deepcopy(FILES[name])
    place = content
    for part in path:
        place = place[part]
    place[key] = value
    (project / f"config/{name}.yaml").write_text(yaml.safe_dump(content))
    assert expected in refusal(project, {}, "smoke")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("config", b"scale: laptop\nscale: paper\n", "config.yaml: not valid YAML: key 'scale' is given twice"),
        ("experiments", b"runs:\n  linear/x: {task: linear, task: linear}\n", "key 'task' is given twice"),
        ("scales", b"paper: {seeds: [1]\n", "scales.yaml: not valid YAML"),
        ("scales", b"- paper\n", "scales.yaml: must be a mapping"),
        ("scales", b"", "scales.yaml: must be a mapping"),
        ("experiments", b"runs: \xff\xfe\n", "experiments.yaml: not text in UTF-8"),
        ("experiments", b"runs: !!python/object/apply:os.system [touch x]\n", "experiments.yaml: not valid YAML"),
    ],
)
def test_files_that_are_not_settings(project: Path, name: str, text: bytes, expected: str) -> None:
    (project / f"config/{name}.yaml").write_bytes(text)
    assert expected in refusal(project, {})


def keys(schema: dict[str, Any], where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places of all keys that a schema knows by name; `*` stands for any name."""
    for key, inner in schema.get("properties", {}).items():
        yield (*where, key)
        yield from keys(inner, (*where, key))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from keys(schema["additionalProperties"], (*where, "*"))


def misspelt(word: str) -> str:
    """The first two letters swapped, as fingers do; a letter doubled where that changes nothing."""
    swapped = word[1::-1] + word[2:]
    return swapped if swapped != word else word + word[-1]


CONFIG_KEYS = list(keys(schema()))


def test_the_generator_finds_every_key() -> None:
    assert {place[0] for place in CONFIG_KEYS} == set(FILES["config"])
    assert ("runs", "*", "training") in CONFIG_KEYS


@pytest.mark.parametrize("place", CONFIG_KEYS, ids="-".join)
def test_every_key_of_the_schema_misspelt_once(place: tuple[str, ...]) -> None:
    content = copy.deepcopy(FILES["config"]) | {key: {DEEP: {"training": {}, "model": {}}} for key in ("runs", "language")}
    inner: Any = content
    for part in place[:-1]:
        inner = inner[DEEP if part == "*" else part]
    wrong = misspelt(place[-1])
    inner[wrong] = inner.pop(place[-1])
    with pytest.raises(InputError) as error:
        read_settings(ROOT, content)
    assert f"unknown key {wrong!r}: did you mean {place[-1]!r}?" in str(error.value)


INNER = [(kind, field.name) for kind in (Training, Model, Theory, Style) for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(("kind", "key"), INNER, ids=[f"{kind.__name__}-{key}" for kind, key in INNER])
def test_every_setting_misspelt_once(kind: type, key: str) -> None:
    wrong = misspelt(key)
    config = {Training: training, Model: model}[kind](**{wrong: 1}) if kind in (Training, Model) else {}
    config = config or ({"style": {wrong: 1}} if kind is Style else {"theory": {GD: {wrong: 1}}})
    line = refusal(ROOT, config)
    assert f"{wrong!r}" in line
    assert key in line


def test_a_name_like_no_other_is_answered_by_a_few_and_where_all_stand() -> None:
    with pytest.raises(InputError, match=r"^unknown run '0': one of (\S+, ){7}\S+ and \d+ more \(config/experiments.yaml\)$"):
        plan(ROOT, {}).run("0")
    assert unknown("0", "key", list("abcdefgh")) == "unknown key '0': one of a, b, c, d, e, f, g, h"
    assert unknown("0", "key", list("abcdefghi")) == "unknown key '0': one of a, b, c, d, e, f, g, h and 1 more"


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "linear/../x", "linear/$(touch x)", "linear/a;b", "linear", "linear/a/b", ""])
def test_a_spec_cannot_name_a_folder_elsewhere(name: str) -> None:
    good = plan(ROOT, {})
    for spec, kind in ((good.run(DEEP), Run), (good.algorithm(GD), Theory)):
        with pytest.raises(InputError, match="must be task/name"):
            kind.from_dict(spec.to_dict() | {"name": name})
