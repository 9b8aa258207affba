"""Colours, and the options that users may set."""

import subprocess
import sys

import pytest
from matplotlib.colors import to_rgb

from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.options import Style
from mesaopt.spec.look import FAMILIES, LINES, Look


def of(family, depth=1, **own):
    return style.line(Look("any", family, depth, **own))


@pytest.mark.parametrize(
    ("family", "strongest"), [("linear", 1), ("softmax", 2), ("mesa", 0), ("hybrid", 0), ("linear-mesa", 1), ("full-mesa", 2)]
)
def test_colours_follow_families_and_darken_with_depth(family, strongest):
    colours = [to_rgb(of(family, depth)["color"]) for depth in range(1, 8)]
    assert all(colour[strongest] == max(colour) for colour in colours)
    assert [sum(colour) for colour in colours] == sorted([sum(colour) for colour in colours], reverse=True)
    assert len(set(colours)) == 7
    layers = [sum(to_rgb(style.layer_line(f"layer {k}", 6, family)["color"])) for k in range(7)]
    assert layers == sorted(layers, reverse=True)


def test_every_family_and_line_that_entries_may_name_has_a_look():
    drawn = {family: of(family) for family in FAMILIES}
    assert len({str(line) for line in drawn.values()}) == len(FAMILIES)
    assert drawn["proposition2"]["linestyle"] == drawn["gd"]["linestyle"] == style.DOTTED
    assert drawn["interpolation"]["linestyle"] == "--" and drawn["compression"]["color"] == "#7f7f7f"
    assert len({str(of("linear", line=word)["linestyle"]) for word in LINES}) == len(LINES)
    assert of("gd", colour="#000000")["color"] == "#000000" and of("gd", colour="#000000")["linestyle"] == style.DOTTED


def test_a_series_that_is_no_layer():
    with pytest.raises(KeyError):
        style.layer_line("LSA-6", 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandd": True}, "style: unknown option 'bandd': did you mean 'band'"),
        ({"band": 1}, "style: band must be true or false, not 1"),
        ({"dpi": 100.5}, "style: dpi must be a whole number"),
        ({"dpi": True}, "style: dpi must be a whole number"),
        ({"width": -1}, "style: width must be a number from 2.0 to 40.0, not -1"),
        ({"font_size": "large"}, "style: font_size must be a number"),
        ({"probe_split": "train"}, "style: probe_split must be one of in_sample, held_out"),
        ({3: True}, "style: unknown option 3"),
        ([], "style: must be a mapping of options"),
        (None, "style: must be a mapping of options"),
    ],
)
def test_wrong_options_in_one_line(options, message):
    with pytest.raises(InputError) as error:
        Style.from_dict(options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_seaborn_does_without_scipy_even_where_there_is_one():
    """scipy comes with the tests, and its import would take half a second of every redraw."""
    code = (
        "import sys; from mesaopt.figures import style; from mesaopt.figures.options import Style\n"
        "with style.applied(Style()): import seaborn\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'scipy', 'seaborn', 'statsmodels'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['seaborn']"
