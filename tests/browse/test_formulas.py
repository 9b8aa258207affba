"""Labels as HTML: every one of the figures, and what cannot be read stays as words."""

import re

import pytest

from mesaopt.browse.formulas import to_html
from mesaopt.figures.registry import FIGURES, figure

PANELS = [panel for name in FIGURES for panel in figure(name).panels]
LABELS = {
    *(panel.title for panel in PANELS),
    *(label for panel in PANELS if panel.axes for label in (panel.axes.x_label, panel.axes.y_label)),
    *(label for panel in PANELS if panel.slots for label in panel.slots.labels),
    *(source.series for panel in PANELS for source in panel.sources if "{" not in source.series),
}


@pytest.mark.parametrize("label", sorted(LABELS))
def test_no_mark_of_a_formula_is_left(label: str) -> None:
    text = to_html(label)
    assert not re.search(r"[$\\{}]", text)
    assert not re.search(r"[_^]", text) or "$" not in label
    opened = re.findall(r"<(\w+)>", text)
    assert sorted(opened) == sorted(re.findall(r"</(\w+)>", text)) and set(opened) <= {"i", "sub", "sup"}


def test_formulas() -> None:
    assert to_html(r"$\hat s_{t+1}$") == "<i>s\N{COMBINING CIRCUMFLEX ACCENT}</i><sub><i>t</i>+1</sub>"
    assert to_html(r"test loss, $\frac{1}{2}\Vert x\Vert^2$") == "test loss, ½‖ <i>x</i>‖<sup>2</sup>"
    assert to_html(r"$W_K^\top W_Q$, head 1").startswith("<i>W</i><sub><i>K</i></sub><sup>⊤</sup> <i>W</i><sub><i>Q</i></sub>, ")
    assert to_html("a < b & 50 %") == "a &lt; b &amp; 50 %"
    assert to_html(r"$\unheard_5$") == "<i>unheard</i><sub>5</sub>"
