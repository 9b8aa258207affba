"""The list of stages: what its entries say is what functions take, tables have, rules call and users type."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesaopt import __main__ as cli
from mesaopt.errors import InputError
from mesaopt.spec import stages
from mesaopt.spec.arguments import File, Option, flag
from mesaopt.spec.files import RUN, WEIGHTS, run_table
from mesaopt.spec.json import Spec
from mesaopt.spec.stage import Stage, load
from mesaopt.spec.stages import STAGES, analyses, jobs, stage, writer
from mesaopt.store.environment import PROJECT
from mesaopt.store.tables import TABLES

ROOT = Path(__file__).parents[2]
#: required options by stage, then the others
OPTIONS = {
    "data": ("task seed counts sequences systems", ""),
    "train": ("spec weights checkpoints", "threads device backend checkpoint-every"),
    "begin": ("spec longer weights", ""),
    "learn": ("spec seed out", "scalars checkpoints checkpoint-every device backend"),
    "evaluate": ("weights sequences name out", "settings device"),
    "evaluate-theory": ("spec parameters sequences seed name out", "settings device"),
    "evaluate-lsq": ("sequences out", "inverse-lam name"),
    "extract": ("weights out structure", ""),
    "interpolate": ("extracted snapshots out", "device"),
    "match": ("first snapshots matching losses", "device"),
    "probe": (
        "weights sequences parameters published-parameters theory published-theory probes",
        "in-context controls settings device",
    ),
    "control-probe": ("sequences parameters published-parameters theory published-theory out", "settings device"),
    "token-probes": ("weights sequences out", "controls settings device"),
    "feature-probes": ("weights sequences out", "controls settings device"),
    "attention": ("weights sequences out lags", "controls settings device"),
    "sensitivity": ("snapshots sequences out", "settings device"),
    "collect": ("figure results seeds out provenance", "looks"),
    "draw": ("figure table provenance out", "style strict-environment"),
    "judge": ("tables scale out", "project without published teachers"),
    "draw-agreement": ("agreement scale out", "project style"),
    "spread": ("tables out", "figures"),
    "agreement-page": ("agreement spread scale out", "project curves teachers"),
    "captions": ("agreement captions", "project"),
    "page-html": ("page out", ""),
    "compare-curves": ("tables published out", "project"),
    "overlay": ("figure table published out", "project style"),
    "browse": ("results scale out", "project published"),
    "compare": ("first second", "tolerance more"),
    "environment": ("out", "project"),
    "record": ("results recorded", "replace weights-up-to"),
    "release": ("recorded out", "project"),
    "orphans": ("", "cancel wait folder"),
    "where": ("", "figure panel series scale"),
    "fetch": ("package out", ""),
    "tokenise": ("spec out", "packages"),
    "train-language": ("tokens spec weights checkpoints", "threads device mesa-form checkpoint-every"),
    "evaluate-language": ("weights tokens loss measures", "settings device"),
    "language-attention": ("weights tokens out copies", "settings device"),
    "sweep-table": ("sweep results seeds out provenance", ""),
    "draw-sweep": ("table provenance out", "style"),
}
#: the tables with a JSON beside them, by the option that names them
DESCRIBED = {
    "data": {"sequences", "systems"},
    "learn": {"out"},
    "evaluate": {"out"},
    "evaluate-theory": {"out"},
    "evaluate-lsq": {"out"},
    "extract": {"out", "structure"},
    "interpolate": {"out"},
    "match": {"matching", "losses"},
    "probe": {"probes", "in-context"},
    "control-probe": {"out"},
    "token-probes": {"out"},
    "feature-probes": {"out"},
    "attention": {"out", "lags"},
    "sensitivity": {"out"},
    "evaluate-language": {"loss", "measures"},
    "language-attention": {"out", "copies"},
    "judge": {"out", "teachers"},
    "spread": {"out"},
    "compare-curves": {"out"},
}


def test_what_users_type_is_what_they_always_typed():
    found = {entry.name: [[o.name for o in entry.options if o.required == need] for need in (True, False)] for entry in STAGES}
    for name, options in OPTIONS.items():
        assert [set(names) for names in found[name]] == [set(names.split()) for names in options], name
    assert found.keys() - OPTIONS.keys() <= {entry.name for entry in analyses()}, "an analysis of one's own"


def test_the_tables_with_a_json_beside_them():
    found = {entry.name: {file.option for file in entry.writes if file.table} for entry in STAGES}
    assert {name: found[name] for name in OPTIONS if found[name]} == DESCRIBED
    assert {file.table for entry in STAGES for file in (*entry.reads, *entry.writes)} - {""} <= set(TABLES)


@pytest.mark.parametrize("entry", STAGES, ids=lambda entry: entry.name)
def test_the_function_takes_what_the_options_say(entry: Stage):
    parameters = inspect.signature(load(f"{entry.module}:{entry.function}")).parameters
    given = {option.dest for option in entry.options}
    assert given <= set(parameters)
    assert {name for name, one in parameters.items() if one.default is one.empty} <= given
    assert entry.text.endswith(".")
    assert {*entry.told} <= {option.name for option in entry.options}


def test_the_code_that_jobs_depend_on_is_there():
    from mesaopt.store.fingerprint import code_fingerprint

    assert all(code_fingerprint(entry.code) for entry in STAGES)


def test_every_file_of_a_run_has_one_writer_and_one_name():
    written = [file for entry in STAGES if entry.of in ("run", "training") for file in (*entry.writes, *entry.beside)]
    assert len({file.name for file in written}) == len({file.place for file in written}) == len(written)
    assert all(file.place.startswith(f"{RUN}/") and file.name.isidentifier() for file in written)
    tables = {file.table: entry.name for entry in analyses() for file in entry.writes}
    assert {table: writer(table).name for table in tables} == tables  # type: ignore[union-attr]
    assert writer("history") is None


def test_quick_analyses_share_a_job_and_others_have_their_own(monkeypatch: pytest.MonkeyPatch):
    slow = Stage("distil", "Slow.", of="run", writes=(run_table("loss", name="distilled"),))
    monkeypatch.setattr(stages, "STAGES", (*STAGES, slow))
    wanted = {"a": ["probe", "evaluate"], "b": ["distil", "evaluate", "probe"], "c": ["distil"]}
    assert jobs(wanted) == {("evaluate", "probe"): ["a", "b"], ("distil",): ["b", "c"]}


def test_an_unknown_stage_is_one_line():
    with pytest.raises(InputError, match="unknown stage 'prob': did you mean 'probe'"):
        stage("prob")


def test_reading_the_list_is_light():
    heavy = {"torch", "numpy", "pandas", "argparse", "mesaopt.spec.run", "mesaopt.store"}
    code = f"import sys, mesaopt.spec.stages; print({heavy!r} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert done.stdout.strip() == "set()"


def test_the_project_is_the_same_for_everyone():
    assert stages.stage("judge").arguments[0].told["default"] == PROJECT == ROOT


# --- command lines
def test_a_command_line_is_read_as_it_was_written():
    entry = stage("evaluate")
    line = entry.command({"weights": "a b", "sequences": Path("s"), "name": "LSA-6's", "out": "o"})
    assert line == """evaluate --weights 'a b' --sequences s --name 'LSA-6'"'"'s' --out o"""
    probe = {"weights": "w", "sequences": "s", "parameters": "p", "theory": "{}", "probes": "o"}
    probe |= {"published-parameters": "q", "published-theory": "{}"}
    read = "--weights w --sequences s --parameters p --published-parameters q --theory '{}' --published-theory '{}'"
    assert stage("probe").command(probe) == f"probe {read} --probes o"
    assert "--controls --probes o" in stage("probe").command(probe | {"controls": True})
    collect = {"figure": "f", "results": "r", "seeds": [1, 11], "out": "o", "provenance": "p"}
    assert "--seeds 1 11" in stage("collect").command(collect)
    with pytest.raises(InputError, match="evaluate: nothing is known for --name"):
        entry.command({"weights": "a", "sequences": "s", "out": "o"})


def calls_in_rules() -> Iterator[tuple[str, set[str]]]:
    """Stages that rules call by hand, each with the options that stand there in words; placeholders in braces may add others."""
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        text = re.sub(r'"\s*\n\s*"', "", path.read_text())
        for line in re.findall(r"python (?:-P )?-m mesaopt (\w[^\"]*)", text):
            for part in re.split(r" then | 2>&1| > ", line):
                name = part.strip().partition(" ")[0]
                if name in OPTIONS:
                    yield name, set(re.findall(r"--([\w-]+)", part))


def test_rules_call_stages_with_options_that_they_have():
    called = list(calls_in_rules())
    for name, given in called:
        options = stage(name).options
        assert {option.name for option in options if option.required} <= given <= {option.name for option in options}, name
    assert {name for name, _ in called} == set(OPTIONS) - {"evaluate-lsq", "where"} - {entry.name for entry in analyses()}


# --- settings
@dataclass(frozen=True)
class Few(Spec):
    """Settings of the fake stage."""

    shots: int = 5

    def __post_init__(self) -> None:
        if self.shots < 1:
            raise InputError(f"shots must be at least 1, not {self.shots}")


CALLS: list[tuple[Path, Few, bool, Path]] = []


def run(weights: Path, settings: Few, all: bool, out: Path) -> None:
    from mesaopt.store.tables import atomic_path

    CALLS.append((weights, settings, all, out))
    with atomic_path(out) as temporary:
        temporary.write_text("shots")


FAKE = Stage(
    "three-shot",
    "Few shots.",
    of="run",
    reads=(WEIGHTS,),
    arguments=(flag("all", "all of them"),),
    writes=(run_table("three_shot", option="out"),),
    module=__name__,
    settings=f"{__name__}:Few",
)


def test_an_entry_is_a_stage_with_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Without settings it takes the defaults; what it was called with stands beside its table."""
    monkeypatch.setattr(stages, "STAGES", (*STAGES, FAKE))
    monkeypatch.setattr(cli, "parser", cli.parser.__wrapped__)  # not the one of before
    words = ["three-shot", "--weights", str(tmp_path / "w"), "--out", str(tmp_path / "a.parquet")]
    CALLS.clear()
    (tmp_path / "few.json").write_text('{"shots": 7}')
    given = [["--settings", '{"shots": 3}', "--all"], ["--settings", str(tmp_path / "few.json")], []]
    assert [cli.main([*words, *more]) for more in given] == [0, 0, 0]
    files = (tmp_path / "w", tmp_path / "a.parquet")
    expected = [(files[0], Few(shots), every, files[1]) for shots, every in ((3, True), (7, False), (5, False))]
    assert expected == CALLS
    facts = json.loads((tmp_path / "a.json").read_text())
    assert (facts["stage"], facts["settings"]) == ("three-shot", {"shots": 5})
    for wrong, line in {
        '{"shot": 1}': "few: unknown key 'shot': did you mean 'shots'?",
        '{"shots": 0}': "shots must be at least 1, not 0",
        "{": "not a few spec",
        "nowhere.json": "nowhere.json: neither JSON nor a readable file",
    }.items():
        capsys.readouterr()
        assert cli.main([*words, "--settings", wrong]) == 1
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1
    assert len(CALLS) == 3


def test_damaged_files_that_a_stage_reads_never_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stages, "STAGES", (*STAGES, FAKE))
    CALLS.clear()
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    (tmp_path / ".w.safetensors.sha256").write_text("another\n")
    assert cli.main(["three-shot", "--weights", str(weights), "--out", str(tmp_path / "a.parquet")]) == 1
    assert not CALLS and not (tmp_path / "a.parquet").exists()


def test_options_of_a_kind():
    assert (Option("strict-environment").dest, File("in_context", option="in-context").dest) == (
        "strict_environment",
        "in_context",
    )
    assert FAKE.command({"weights": "w", "out": "o", "settings": "{}"}) == "three-shot --weights w --settings '{}' --out o"
