"""Labels of figures, in which matplotlib reads formulas between dollars, as HTML that plotly and browsers show alike.

Only what labels of this project use is known; of anything else the words stay.
"""

import re
from html import escape

SIGNS = {
    r"\frac{1}{2}": "½",
    r"\Vert": "‖",
    r"\partial": "∂",
    r"\top": "⊤",
    r"\Phi": "Φ",
    r"\eta": "η",
    r"\lambda": "λ",
    r"\beta": "β",
    r"\alpha": "α",
    r"\leq": "≤",
    r"\times": "×",
    "'": "′",
    "-": "−",
}
#: a letter with what stands on it
HAT = "\N{COMBINING CIRCUMFLEX ACCENT}"
RAISED = {"_": "sub", "^": "sup"}


def to_html(label: str) -> str:
    """`$\\hat s_{t+1}$` as s with a hat and its index below."""
    parts = re.split(r"\$([^$]*)\$", label)
    return "".join(_formula(part) if place % 2 else escape(part, quote=False) for place, part in enumerate(parts))


def _formula(text: str) -> str:
    for sign, letter in SIGNS.items():
        text = text.replace(sign, letter)
    text = re.sub(r"\\hat *(\w)", rf"\1{HAT}", text)
    text = re.sub(r"\\([A-Za-z]+)", r"\1", text)
    text = escape(text, quote=False)
    text = re.sub(rf"[A-Za-z]+{HAT}?(?![A-Za-z;])", lambda found: f"<i>{found[0]}</i>", text)
    return re.sub(r"([_^])(?:\{([^{}]*)\}|(<i>\w+</i>|\w|⊤))", _script, text)


def _script(found: re.Match[str]) -> str:
    """An index or a power, small."""
    tag = RAISED[found[1]]
    return f"<{tag}>{found[2] or found[3]}</{tag}>"
