"""CONTRIBUTING.md as something to follow: its recipes, read from the page, and what each of their steps does to a clone."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from workflow_folder import ROOT, copy_workflow, environment

PAGE = ROOT / "CONTRIBUTING.md"
#: what recipes need beside the workflow
PARTS = ("CONTRIBUTING.md", "README.md", "docs", "pyproject.toml", "results/recorded", "tests")
#: the sentence before a block, and what is done with the block
NEW = re.compile(r"New file `(?P<path>[^`]+)`:$")
AFTER = re.compile(r"In `(?P<path>[^`]+)`, after the line (?P<has>that has )?`(?P<line>[^`]+)`:$")
END = re.compile(r"At the end of `(?P<path>[^`]+)`:$")
COMMANDS = re.compile(r"(?P<when>Try|Run) it\b.*:$", flags=re.DOTALL)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A block of a recipe and the paragraph before it."""

    said: str
    language: str
    block: str

    @property
    def edits(self) -> re.Match[str] | None:
        return NEW.match(self.said) or AFTER.match(self.said) or END.match(self.said)

    @property
    def when(self) -> str:
        """`Try` or `Run` for commands, nothing for edits."""
        found = COMMANDS.match(self.said)
        return found["when"] if found else ""

    def edit(self, clone: Path) -> None:
        """Do what the sentence says; it must be possible in exactly one way."""
        assert self.edits is not None, f"what is to be done with this block: {self.said!r}"
        path = clone / self.edits["path"]
        if NEW.match(self.said):
            assert not path.exists() and path.parent.is_dir(), path
            path.write_text(self.block)
        elif AFTER.match(self.said):
            lines = path.read_text().splitlines(keepends=True)
            wanted, part = self.edits["line"], self.edits["has"]
            places = [number for number, line in enumerate(lines, 1) if (wanted in line if part else wanted == line.strip())]
            assert len(places) == 1, f"{path}: {len(places)} lines {wanted!r}"
            path.write_text("".join([*lines[: places[0]], self.block, *lines[places[0] :]]))
        else:
            path.write_text(f"{path.read_text().rstrip()}\n\n\n{self.block}")


def recipes(page: Path = PAGE) -> dict[str, list[Step]]:
    """The steps of every section that has any, by its heading."""
    found = {}
    for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        starts = [(match, body[: match.start()].rstrip().rpartition("\n\n")[2]) for match in _BLOCK.finditer(body)]
        if steps := [Step(said, match[1], match[2]) for match, said in starts]:
            found[heading] = steps
    return found


def clone(folder: Path) -> Path:
    """A copy of the project in `folder`."""
    copy_workflow(folder)
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


def execute(folder: Path, commands: str, timeout: float = 600) -> str:
    """The output of a block of commands in the environment of `folder`; each must succeed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment() | {"PATH": path, "PYTHONPATH": str(folder / "src")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
