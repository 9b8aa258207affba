"""The list of figures: each has a caption, and reading it costs nothing."""

import subprocess
import sys
from pathlib import Path

from mesaopt.figures.registry import FIGURES

ROOT = Path(__file__).resolve().parents[2]


def test_every_figure_has_a_caption_that_names_its_runs():
    for name, wanted in FIGURES.items():
        text = (ROOT / "workflow" / "report" / f"{name.replace('/', '-')}.rst").read_text()
        assert text.count("**") >= 2 and f"tables/{name}.parquet" in text
        from_runs = {"/".join(source.path.split("/")[1:3]) for p in wanted.panels for source in p.sources}
        for run in from_runs:
            assert run in text or f"``-{run.rpartition('-')[2]}``" in text, f"{name}: {run}"


def test_registry_is_light():
    code = "import sys, mesaopt.figures.registry; print({'pandas', 'numpy', 'matplotlib', 'torch'} & set(sys.modules))"
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"
