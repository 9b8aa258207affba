"""The list of figures: each has a caption, and reading it costs nothing."""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mesaopt.figures.registry import FIGURES, figure, runs
from mesaopt.spec.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[2]


def alternatives(words: str) -> Iterator[tuple[str, ...]]:
    """What a{b,c}d stands for, as a shell reads it: (a, b, d) and (a, c, d)."""
    return itertools.product(*(part.split(",") for part in re.split(r"[{}]", words)))


def test_every_figure_has_a_caption_that_names_its_runs():
    for name in FIGURES:
        text = (ROOT / "workflow" / "report" / f"{name.replace('/', '-')}.rst").read_text()
        assert text.count("**") >= 2 and f"tables/{name}.parquet" in text
        # those that join by their entries, the caption need not know
        from_runs = {source.run for panel in FIGURES[name]().panels for source in panel.sources}
        written = {"".join(parts) for words in re.findall(r"``(\S+)``", text) for parts in alternatives(words)}
        for run in from_runs:
            assert run in text or run in written or f"``-{run.rpartition('-')[2]}``" in text, f"{name}: {run}"


def test_registry_is_light():
    heavy = {"pandas", "numpy", "matplotlib", "torch", "seaborn", "yaml"}
    code = f"import sys, mesaopt.figures.registry; print({heavy} & set(sys.modules))"
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"


def test_runs_behind_an_interpolation_are_those_that_the_project_compresses():
    pairs = read_yaml(ROOT / "config/experiments.yaml")["interpolations"]
    sources = [source for name in FIGURES for panel in figure(name).panels for source in panel.sources if source.behind]
    assert {source.run: source.behind for source in sources} == {second: (first,) for second, first in pairs.items()}
    assert set(pairs.values()) <= {run for name in FIGURES for run in runs(name)}
