"""Colours, and the options that users may set."""

import pytest
from matplotlib.colors import to_rgb

from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.options import Style


def test_colours_follow_families():
    depths = [sum(to_rgb(style.line(f"LSA-{depth}")["color"])) for depth in range(1, 8)]
    assert depths == sorted(depths, reverse=True)  # darker means deeper
    for depth in range(1, 8):
        red, green, blue = to_rgb(style.line(f"LSA-{depth}")["color"])
        assert green > red and green > blue
    red, green, blue = to_rgb(style.line("Mesa-1")["color"])
    assert red > 2 * green and red > 2 * blue
    layers = [sum(to_rgb(style.layer_line(f"layer {k}", 6)["color"])) for k in range(7)]
    assert layers == sorted(layers, reverse=True)
    with pytest.raises(KeyError):
        style.line("something-else")


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
