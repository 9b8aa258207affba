"""The keys of config/config.yaml and `--config`: default, meaning and allowed values of each, said here alone.

The check before anything runs, the schema in workflow/schemas and the table of config/README.md are made from this
(`settings_pages`).
"""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

#: scales that are computed, in the order of their cost; `recorded` reads what ships with the project
COMPUTED_SCALES = ("paper", "gpu", "laptop", "smoke")
FORMATS = ("pdf", "png", "svg")


class Key(NamedTuple):
    """A key: its default, what it means, the values in words, and their JSON schema."""

    default: Any
    meaning: str
    values: str
    schema: Mapping[str, Any]


def _choice(default: str, meaning: str, **words: str) -> Key:
    """One of several words, each with what it means or nothing."""
    values = ", ".join(f"`{word}` ({text})" if text else f"`{word}`" for word, text in words.items())
    return Key(default, meaning, values, {"enum": list(words)})


def _list(items: Mapping[str, Any], least: int = 1) -> dict[str, Any]:
    return {"type": "array", **({"minItems": least} if least else {}), "uniqueItems": True, "items": items}


def _named(entries: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping from names or patterns (YAML would allow numbers as keys) to entries."""
    return {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": entries}


_NULL = {"type": "null"}
_CHANGES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {part: {"type": "object"} for part in ("training", "model")},
}

_TEXT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {"path": {"type": "string", "minLength": 1}, "column": {"type": "string", "minLength": 1}},
}

_SWEEP = {
    "type": "object",
    "additionalProperties": False,
    "required": ["run", "over"],
    "properties": {
        "run": {"type": "string"},
        "over": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array", "minItems": 1}},
        "with": {"type": "object"},
        "panel": {"type": "string"},
    },
}

KEYS = {
    "scale": _choice(
        "laptop",
        "which settings",
        paper="the paper's settings, five seeds",
        gpu="the same, two seeds, with language models for an hour of one GPU",
        laptop="two cores, minutes",
        smoke="everything as small as it runs",
        recorded="what ships with the project: redraws tables, reads weights, trains nothing",
    ),
    "seeds": Key(
        None,
        "training seeds",
        "list of whole numbers, or `null`: those of the scale. Each one also has evaluation data of its own; hand-written"
        " algorithms are learned with the first seed of the scale, whatever is given here",
        {"anyOf": [_NULL, _list({"type": "integer", "minimum": 0, "maximum": 2**32 - 1})]},
    ),
    "formats": Key(["pdf"], "what `snakemake all` makes", "list of `pdf`, `png`, `svg`", _list({"enum": list(FORMATS)})),
    "runs": Key(
        {},
        "settings of runs changed on top of the scale",
        "`{name or pattern: {training: {...}, model: {...}}}`",
        _named(_CHANGES),
    ),
    "theory": Key({}, "the same for hand-written algorithms", "`{name or pattern: {...}}`", _named({"type": "object"})),
    "language": Key(
        {},
        "the same for runs on text",
        "`{name or pattern: {training: {...}, model: {...}}}`",
        _named(_CHANGES),
    ),
    "text": Key(
        None,
        "a text of your own, such as the Pile, in place of that of the scale",
        "`{path: folder of *.jsonl, *.jsonl.zst, *.parquet or *.txt, column: where a document is in them}` (the column is `text`"
        " if not said), or `null` ([language models](../docs/language.md))",
        {"anyOf": [_NULL, _TEXT]},
    ),
    "analyses": Key(
        {},
        "settings of analyses of trained models, on top of the scale",
        "`{stage: {run or pattern: {...}}}`",
        _named(_named({"type": "object"})),
    ),
    "sweep": Key(
        None,
        "one run trained over a grid of any of its settings",
        "`{run: name, over: {setting: [values]}, with: {setting: {swept value: value}}, panel: what is drawn}`, or `null`",
        {"anyOf": [_NULL, _SWEEP]},
    ),
    "device": _choice("auto", "where trainings run", auto="a GPU if there is one", cpu="", cuda=""),
    "analysis_device": _choice(
        "cpu",
        "where hand-written algorithms are learned and trained models evaluated, probed and differentiated",
        cpu="seconds to minutes each, a process per core",
        auto="a GPU if there is one",
        cuda="",
    ),
    "backend": _choice(
        "auto",
        "what computes a step of training, tuning or distilling, and whether compiled code draws the batches of a GPU",
        auto="the compiled kernels for CPUs and for GPUs where they can be had",
        torch="",
        native="CPU only, compiled code or an error",
        cuda="GPU only, compiled code or an error",
    ),
    "pack": Key(
        "auto",
        "seeds per training job",
        "`auto` (1 on a CPU; all seeds where jobs get a GPU) or a number",
        {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]},
    ),
    "checkpoint_every": Key(
        20, "how often a training saves where it is: what a crash can cost at most", "seconds", {"type": "number", "minimum": 0}
    ),
    "strict_environment": Key(
        False,
        "what happens to a figure whose results come from environments of different versions",
        "`false`: its small print and provenance say so; `true`: refused",
        {"type": "boolean"},
    ),
    "container": Key(
        None,
        "image that jobs run in with `--sdm apptainer`",
        "an address (`docker://...`) or the path of an image file, or `null` or nothing: jobs run in the environment of"
        " Snakemake ([how one is built](../docs/clusters.md#in-a-container))",
        {"anyOf": [_NULL, {"type": "string", "pattern": r"^[\w./:@+~-]*$"}]},
    ),
    "published_tables": Key(
        None,
        "folder of published tables that `snakemake agreement` compares our curves with",
        "a path, or `null`: no comparison ([below](#publishedyaml))",
        {"anyOf": [_NULL, {"type": "string", "minLength": 1}]},
    ),
    "agreement_without": Key(
        [],
        "figures that `snakemake agreement` does not make; claims that need them are `not run`",
        "list of figures",
        _list({"type": "string"}, least=0),
    ),
    "style": Key({}, "looks of the figures; a change redraws and computes nothing", "mapping, below", {"type": "object"}),
}


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the default of every key that it lacks: a workflow that uses this one as a module gives only what it wants."""
    return {**{name: copy.deepcopy(key.default) for name, key in KEYS.items()}, **given}


def schema() -> dict[str, Any]:
    """The JSON schema of config.yaml. No key is required: missing ones have their default."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "what users edit (config/config.yaml and --config)",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {"description": key.meaning, "default": key.default, **key.schema} for name, key in KEYS.items()},
    }
