"""Every command that a page tells its reader to type: in blocks of code, and in the text between backquotes."""

import re
from dataclasses import dataclass
from pathlib import Path

from workflow_folder import ROOT

#: the change log tells of commands that are gone
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOOLS = ("snakemake", "make", "python", "conda", "git", "buildah", "apptainer", "generate-slurm-partition-config")
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<text>.*?)^```$", flags=re.DOTALL | re.MULTILINE)
#: the line before a block that is not run; a reader of the page does not see it
MARK = re.compile(r"<!-- not run: (?P<why>.+) -->$")
SHELL = ("", "bash")
#: languages of blocks that are no commands
OTHERS = ("text", "python", "yaml", "markdown", "rst")


@dataclass(frozen=True)
class Command:
    page: str
    line: str
    #: why no test runs it, as its page says
    why: str = ""


def commands(page: Path) -> list[Command]:
    """Those of a page, once each. Raises `AssertionError` at a block that is neither marked nor made of commands."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    found = [Command(name, line, _why(block)) for block in BLOCK.finditer(text) for line in _lines(block)]
    between = BLOCK.sub("", text)
    inline = re.findall(rf"`((?:{'|'.join(TOOLS)}) [^`]+)`", between)
    return list(dict.fromkeys([*found, *(Command(name, " ".join(line.split())) for line in inline)]))


def _why(block: re.Match[str]) -> str:
    mark = MARK.match(block["before"])
    return mark["why"] if mark else ""


def _lines(block: re.Match[str]) -> list[str]:
    """The commands of a block: a line each, or several with `&&` between them; without comments."""
    if block["language"] in OTHERS or (_why(block) and block["language"] not in SHELL):
        return []
    assert block["language"] in SHELL, block[0]
    lines = [re.sub(r"\s+#.*$", "", line) for line in block["text"].splitlines() if line.strip()]
    found = [part.strip() for line in lines for part in line.split("&&")]
    assert all(line.split()[0] in TOOLS for line in found), f"no commands, and no language said: {block[0]}"
    return found
