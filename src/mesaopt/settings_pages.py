"""`python -m mesaopt.settings_pages`: writes what is said about settings twice, from the place where it is said first.

The tables in config/README.md stand between `<!-- made from the code: NAME -->` and `<!-- end -->`; the schema of config.yaml is
for editors and for who reads it, the workflow checks against the same in memory.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mesaopt.figures.options import Style
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Attention, Distil, Evaluate, Labels, Linearise, Probe, Prompts, Samples, Sensitivity, Tokens
from mesaopt.spec.described import DESCRIBED
from mesaopt.spec.language import LanguageMeasures, LanguageModel, LanguageTraining
from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.spec.settings import KEYS, schema
from mesaopt.spec.text import Text
from mesaopt.store.environment import PROJECT

ANALYSES = (Evaluate, Probe, Tokens, Samples, Attention, Sensitivity, Prompts, Labels, Distil, Linearise)
OF_LANGUAGE = (Text, LanguageModel, LanguageTraining, LanguageMeasures)
CLASSES: dict[str, type] = {kind.__name__: kind for kind in (Task, Model, Training, Run, Theory, *ANALYSES, *OF_LANGUAGE, Style)}
README, SCHEMA = Path("config/README.md"), Path("workflow/schemas/config.schema.yaml")
_MADE = re.compile(r"(<!-- made from the code: (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def pages(project: Path = PROJECT) -> dict[Path, str]:
    """Path below `project` -> what must stand there. Raises `KeyError` for a field that nothing is said about."""
    readme = (project / README).read_text(encoding="utf-8")
    header = "# Made by `python -m mesaopt.settings_pages` from src/mesaopt/spec/settings.py; do not edit.\n"
    return {
        README: _MADE.sub(lambda found: f"{found[1]}\n{table(found[2])}\n{found[3]}", readme),
        SCHEMA: header + _yaml(schema()),
    }


def _yaml(content: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # no part is there twice: YAML would name it and refer to it
    return yaml.safe_dump(plain, sort_keys=False, width=120, default_flow_style=None)


def table(name: str) -> str:
    """The Markdown table of the keys of config.yaml (`config`), or of the fields of a class (`model`)."""
    if name == "config":
        rows = [(f"`{key}`", about.meaning, about.values, _value(about.default)) for key, about in KEYS.items()]
        return _markdown(("key", "meaning", "values", "default"), rows)
    kind = next(kind for called, kind in CLASSES.items() if called.lower() == name)
    described = DESCRIBED[kind.__name__]
    fields = [field for field in dataclasses.fields(kind) if field.name != "name"]  # given by the key of the entry
    columns = [("key", [f"`{field.name}`" for field in fields]), ("meaning", [described[field.name].text for field in fields])]
    columns += [
        ("unit", [described[field.name].unit for field in fields]),
        ("default", [_default(field) for field in fields]),
        ("paper", [described[field.name].paper for field in fields]),
    ]
    said = [(head, cells) for head, cells in columns if any(cells)]
    return _markdown([head for head, _ in said], zip(*(cells for _, cells in said), strict=True))


def _default(field: dataclasses.Field[Any]) -> str:
    return "must be given" if field.default is dataclasses.MISSING else _value(field.default)


def _value(default: Any) -> str:
    """As it is written in YAML."""
    text = yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip()
    return f"`{text}`" if default != "" else ""


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace("  |", " |") for cells in lines)


if __name__ == "__main__":
    for path, text in pages().items():
        (PROJECT / path).write_text(text, encoding="utf-8")
