"""The page as HTML: the same words, well-formed, one file without scripts or a network."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from agreement_tables import ROOT

from mesaopt.agreement.html import html_stage, to_html
from mesaopt.errors import InputError

PAGE = (ROOT / "docs/agreement.md").read_text()


class Reader(HTMLParser):
    """Tags in their order, the text of the body, and how deep tags are nested at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "body" in self.open:
            self.words += data.split()


def plain(markdown: str) -> list[str]:
    """Words of a Markdown page without its marks."""
    pictures = re.sub(r"!\[(.+)\]\(.+\)", r"\1", markdown)
    lines = [line for line in pictures.splitlines() if not re.fullmatch(r"[|-]+", line)]
    text = "\n".join(re.sub(r"^(#+|-) ", "", line) for line in lines)
    return re.sub(r"[`|*]", " ", text).split()


def test_the_page_that_ships_says_the_same_in_html() -> None:
    read = Reader(to_html(PAGE))
    assert re.sub(r"\s", "", "".join(read.words)) == re.sub(r"\s", "", "".join(plain(PAGE)))
    assert not read.open, "every tag is closed"
    assert read.tags.count("h2") == PAGE.count("\n## ") and read.tags.count("table") == PAGE.count("\n|---")
    assert read.tags.count("tr") == len(re.findall(r"^\| ", PAGE, flags=re.MULTILINE))
    assert read.tags.count("li") == len(re.findall(r"^- ", PAGE, flags=re.MULTILINE))


def test_it_is_one_file() -> None:
    read = Reader(to_html(PAGE))
    assert not {"script", "link", "img", "a", "iframe"} & set(read.tags)
    assert read.attributes <= {"lang", "charset", "id", "class"} and "url(" not in to_html(PAGE)


def test_marks_and_letters() -> None:
    text = to_html("# A & B\n\nFor *n* < 5, **2 * 3** is `a*b*c <x>` * 2.\n\n- one\n- **two**\n\n## W_O W_V: yes, no\n")
    assert "<title>A &amp; B</title>" in text
    assert "<p>For <em>n</em> &lt; 5, <strong>2 * 3</strong> is <code>a*b*c &lt;x&gt;</code> * 2.</p>" in text
    assert "<ul>\n<li>one</li>\n<li><strong>two</strong></li>\n</ul>" in text
    assert '<h2 id="w_o-w_v-yes-no">W_O W_V: yes, no</h2>' in text


def test_tables_keep_empty_cells_and_show_verdicts() -> None:
    text = to_html("| claim | paper | verdict |\n|---|---|---|\n| One *is* two. |  | **fails** |\n| a | 1 | holds |\n")
    assert "<th>paper</th><th>verdict</th>" in text
    assert '<tr><td>One <em>is</em> two.</td><td></td><td class="fails"><strong>fails</strong></td></tr>' in text
    assert '<td>1</td><td class="holds">holds</td>' in text


def test_a_page_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.md: not a readable page") as error:
        html_stage(tmp_path / "a.md", tmp_path / "a.html")
    assert "\n" not in str(error.value) and not (tmp_path / "a.html").exists()
