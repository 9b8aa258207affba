"""What is said about settings twice is equal, and every setting is described."""

import dataclasses
from pathlib import Path

import pytest

from mesaopt import settings_pages
from mesaopt.spec.described import DESCRIBED
from mesaopt.spec.settings import COMPUTED_SCALES, KEYS
from mesaopt.spec.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", [settings_pages.README, settings_pages.SCHEMA], ids=str)
def test_pages_are_what_the_code_says(path: Path) -> None:
    assert (ROOT / path).read_text() == settings_pages.pages(ROOT)[path], "run: python -m mesaopt.settings_pages"


def test_the_readme_has_every_table() -> None:
    readme = (ROOT / settings_pages.README).read_text()
    for name in ("config", *(name.lower() for name in settings_pages.CLASSES)):
        assert readme.count(f"<!-- made from the code: {name} -->") == 1
    for key in KEYS:
        assert f"\n| `{key}` | " in readme


def test_a_page_that_is_behind_is_brought_up(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / settings_pages.README).write_text("before\n<!-- made from the code: style -->\n| old |\n<!-- end -->\nafter\n")
    made = settings_pages.pages(tmp_path)[settings_pages.README]
    assert made.startswith("before\n<!-- made from the code: style -->\n\n| key | meaning |")
    assert "| `dpi` | dots of a PNG, from 30 to 1200 | per inch | `200` |" in made
    assert made.endswith("|\n\n<!-- end -->\nafter\n") and "old" not in made


@pytest.mark.parametrize("kind", settings_pages.CLASSES.values(), ids=settings_pages.CLASSES)
def test_every_field_is_described_and_nothing_else(kind: type) -> None:
    described = DESCRIBED[kind.__name__]
    assert set(described) == {field.name for field in dataclasses.fields(kind)}
    assert all(len(meaning.text) > 5 for meaning in described.values())


def test_scales_are_the_ones_that_the_files_know() -> None:
    assert list(read_yaml(ROOT / "config/scales.yaml")) == list(COMPUTED_SCALES)
    assert KEYS["scale"].schema["enum"] == [*COMPUTED_SCALES, "recorded"]
