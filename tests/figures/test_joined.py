"""A run joins panels by its entry alone."""

import pytest

from mesaopt.errors import InputError
from mesaopt.figures.looks import from_json, shipped, to_json
from mesaopt.figures.registry import analyses, figure, inputs, runs
from mesaopt.spec.look import Look


def with_guest(*panels: str) -> dict[str, Look]:
    return {**shipped(), "linear/guest": Look.of("linear/guest", {"label": "Guest-1", "panels": list(panels)})}


def test_a_run_stands_in_the_panels_that_it_names_with_its_files_and_analyses() -> None:
    looks = with_guest("ext/layers/mse", "fig3/mse_depth")
    panels = {panel.name: [source.series for source in panel.sources] for panel in figure("ext/layers", looks).panels}
    assert panels["mse"][-1] == "Guest-1" and "Guest-1" not in panels["training"]
    assert "linear/guest" in runs("fig3", looks) and "linear/guest" not in runs("fig2", looks)
    assert "runs/linear/guest/seed-1/loss.parquet" in inputs("ext/layers", [1], looks)
    assert "linear/guest" in {run for of in analyses(looks).values() for run in of}
    assert "linear/guest" not in runs("ext/layers", with_guest())


def test_what_it_joined_is_in_the_json_that_the_picture_is_drawn_with() -> None:
    looks = with_guest("ext/layers/training")
    read = from_json(to_json(looks, ["linear/guest"]))
    assert read["linear/guest"] == looks["linear/guest"]
    assert figure("ext/layers", {**shipped(), **read}).panels[0].sources[-1].series == "Guest-1"


@pytest.mark.parametrize("panel", ["ext/layers/mze", "fig1/schematic"])
def test_a_panel_that_cannot_be_joined_is_named(panel: str) -> None:
    with pytest.raises(InputError, match=f"linear/guest: panels: unknown panel '{panel}'"):
        figure(panel.rpartition("/")[0], with_guest(panel))


@pytest.mark.parametrize("panels", ["ext/layers/mse", [3], ["mse"]])
def test_panels_must_be_a_list(panels: object) -> None:
    with pytest.raises(InputError, match="x: panels must be a list of FIGURE/PANEL"):
        Look.of("x", {"panels": panels})
