"""What a scale computes of language models: texts, runs and measures of config/experiments.yaml, changed by scale and user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.spec.entries import EXPERIMENTS, named_entries, override
from mesaopt.spec.language import LanguageMeasures, LanguageRun
from mesaopt.spec.look import Look, without_look
from mesaopt.spec.text import Text

#: the corpus of a text of one's own
OWN = "folder"


@dataclass(frozen=True)
class LanguagePlan:
    """Texts, runs on them and how these look, by name, and what is measured of them."""

    texts: dict[str, Text]
    runs: dict[str, LanguageRun]
    measures: LanguageMeasures
    looks: dict[str, Look]

    def missing_text(self, run: str) -> str | None:
        """Why a run has no text to be trained on, if so: that of the paper is nobody's to give away."""
        text = self.runs[run].task
        return None if OWN not in text.corpora or text.path else f"{run} needs a text of your own: text={{path: FOLDER}}"


def language_plan(experiments: Mapping[str, Any], layers: Sequence[tuple[str, Mapping[str, Any]]]) -> LanguagePlan:
    """From experiments.yaml and what changes it (`layers`: a name for messages, and the changes), the user's last.

    Raises `InputError` for unknown names, patterns that match nothing, and values that no spec allows.
    """
    entries = named_entries(experiments.get("language") or {})
    texts = {name: dict(values) for name, values in (experiments.get("texts") or {}).items()}
    measures = dict(experiments.get("language_measures") or {})
    for source, layer in layers:
        override(entries, layer.get("language") or {}, f"{source}: language")
        override(texts, layer.get("texts") or {}, f"{source}: texts")
        measures |= layer.get("language_measures") or {}
    read = {name: _text(name, values, layers[-1][1].get("text") if layers else None) for name, values in texts.items()}
    runs = {name: _run(name, values, read) for name, values in entries.items()}
    looks = {name: _look(name, values) for name, values in entries.items()}
    return LanguagePlan(read, runs, LanguageMeasures.from_dict(measures), looks)


def language_looks(experiments: Mapping[str, Any]) -> dict[str, Look]:
    """How all runs look by experiments.yaml alone."""
    return {name: _look(name, values) for name, values in named_entries(experiments.get("language") or {}).items()}


def _text(name: str, values: Mapping[str, Any], own: Mapping[str, Any] | None) -> Text:
    """With a text of one's own, `own` says where it lies, and it is the only corpus of every text."""
    text = Text.from_dict({**values, "name": name})
    return replace(text, corpora=(OWN,), megabytes=0.0, **own) if own else text


def _run(name: str, values: Mapping[str, Any], texts: Mapping[str, Text]) -> LanguageRun:
    task = values.get("task")
    if not isinstance(task, str) or task not in texts:
        raise InputError(f"{name}: {unknown(task, 'text', list(texts), EXPERIMENTS)}")
    if name.partition("/")[0] != task:
        raise InputError(f"{name}: belongs to text {task}, so its name must begin with {task}/")
    try:
        return LanguageRun.from_dict({**without_look(values), "name": name, "task": texts[task].to_dict()})
    except InputError as error:
        raise InputError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None


def _look(name: str, values: Mapping[str, Any]) -> Look:
    """A family without a colour of its own is that of its last kind of layer: the first one is softmax in most."""
    layers = values["model"]["layers"]
    return Look.of(name, {"family": layers[-1] if layers[-1] in ("softmax", "linear", "mesa") else "other", **values})
