"""The page on agreement as HTML, for the report: one file without scripts and without anything from a network.

The page uses a part of Markdown: headings, paragraphs, lists and tables, parted by empty lines; in them `code`, **bold** and
*italic*. Nothing else is rendered here: in the report figures stand beside the page, so of a picture its words are left.
"""

import re
from html import escape
from pathlib import Path

from mesaopt.agreement.intervals import FAILS, HOLDS, TOO_FEW, UNDECIDED
from mesaopt.errors import InputError
from mesaopt.store.tables import atomic_path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; font-weight: 600; } h2 { margin-top: 2.2rem; font-size: 1.25rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 0.87rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.7rem 0.3rem 0; border-bottom: 1px solid #ddd; }
th { border-bottom: 1px solid #888; } code { font-size: 0.87em; background: #f3f3f3; padding: 0 0.2em; }
.holds { color: #1b6f5c; } .fails { color: #b5281e; } .undecided { color: #8a6d1f; }
"""
#: verdicts -> their class; words say them as well
CLASSES = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided", TOO_FEW: "undecided"}
MARKS = ((r"\*\*(.+?)\*\*", r"<strong>\1</strong>"), (r"\*([^*\s](?:[^*]*[^*\s])?)\*", r"<em>\1</em>"))


def html_stage(page: Path, out: Path) -> None:
    """Write the Markdown page `page` as HTML at `out`. Raises `InputError` in one line when it cannot be read."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{page}: not a readable page ({error})") from None
    with atomic_path(out) as temporary:
        temporary.write_text(to_html(text), encoding="utf-8")


def to_html(markdown: str) -> str:
    """A whole document; its title is the first heading."""
    blocks = [block.strip("\n") for block in re.split(r"\n{2,}", markdown) if block.strip()]
    title = next((block.lstrip("# ") for block in blocks if block.startswith("#")), "Page")
    head = f'<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>'
    body = "\n".join(map(_block, blocks))
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _block(block: str) -> str:
    lines = block.split("\n")
    if match := re.fullmatch(r"(#{1,6}) (.+)", block):
        level = len(match[1])
        return f'<h{level} id="{anchor(match[2])}">{_inline(match[2])}</h{level}>'
    if match := re.fullmatch(r"!\[(.+)\]\(.+\)", block):
        return f"<p>{_inline(match[1])}</p>"
    if all(line.startswith("- ") for line in lines):
        return "\n".join(["<ul>", *(f"<li>{_inline(line[2:])}</li>" for line in lines), "</ul>"])
    if all(line.startswith("|") for line in lines) and len(lines) > 1:
        return _table(lines)
    return f"<p>{_inline(block)}</p>"


def anchor(heading: str) -> str:
    """The name that Markdown's own renderers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _table(lines: list[str]) -> str:
    """The first line is the head, the second parts it from the rows."""
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    body = [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    heading = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
    return "\n".join(["<table>", f"<thead><tr>{heading}</tr></thead>", "<tbody>", *body, "</tbody>", "</table>"])


def _cell(cell: str) -> str:
    found = CLASSES.get(cell.strip("*"))
    return f'<td class="{found}">{_inline(cell)}</td>' if found else f"<td>{_inline(cell)}</td>"


def _inline(text: str) -> str:
    """Code is taken out first: nothing in it is a mark."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(f"<code>{escape(part)}</code>" if i % 2 else _marked(escape(part)) for i, part in enumerate(parts))


def _marked(text: str) -> str:
    for pattern, replacement in MARKS:
        text = re.sub(pattern, replacement, text)
    return text
