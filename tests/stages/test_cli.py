"""The command line: stages run from their arguments, mistakes are one line, drawing waits for no torch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from stage_files import TASK, run, sequences, trained

from mesaopt import __main__ as cli
from mesaopt.__main__ import parser
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.stages import STAGES, analyses
from mesaopt.store.tables import read_table

THEORY = Theory("linear/p", TASK, "chebyshev", steps=3, lr=0.01, batch=8, n_steps=2, warmup=1)
COMMANDS = {
    "data": "--task {} --seed 1 --counts evaluation=4 --sequences a --systems b",
    "train": "--spec {} --weights seed-1/weights.safetensors seed-2/weights.safetensors --checkpoints c",
    "begin": "--spec {} --longer folder --weights seed-1/weights.safetensors",
    "learn": "--spec {} --seed 1 --out a",
    "evaluate": "--weights a --sequences b --name LSA-6 --out c",
    "evaluate-theory": "--spec {} --parameters a --sequences b --seed 1 --name GD-1 --out c",
    "evaluate-lsq": "--sequences a --out b",
    "extract": "--weights a --out b --structure c",
    "interpolate": "--extracted a --snapshots b --out c",
    "match": "--first a --snapshots b --matching c --losses d",
    "probe": "--weights a --sequences b --theory {} --published-theory {} --parameters c --published-parameters c --probes d",
    "collect": "--figure fig2 --results a --seeds 1 11 --out b --provenance c",
    "fetch": "--package botocore --out a",
    "tokenise": "--spec {} --out a",
    "train-language": "--tokens a --spec {} --checkpoints b --weights seed-1/weights.safetensors",
    "evaluate-language": "--weights a --tokens b --loss c --measures d",
    "language-attention": "--weights a --tokens b --out c --copies d",
    "compare": "--first a --second b",
    "draw": "--figure fig2 --table a --provenance b --out c.pdf",
    "draw-sweep": "--table a --provenance b --out c.pdf",
    "sweep-table": "--sweep {} --results a --seeds 1 11 --out b --provenance c",
    "environment": "--out a",
    "record": "--results a --recorded b",
    "release": "--recorded a --out b",
    "browse": "--results a --scale paper --out b",
    "judge": "--tables a --scale paper --out b",
    "draw-agreement": "--agreement a --scale paper --out b.pdf",
    "spread": "--tables a --figures fig2 fig3 --out b",
    "page-html": "--page a --out b",
    "captions": "--agreement a --captions b",
    "agreement-page": "--agreement a --spread b --scale paper --out c",
    "compare-curves": "--tables a --published b --out c",
    "overlay": "--figure fig2 --table a --published b --out c.pdf",
}


def call(capsys, *arguments):
    """Exit status, and what was said on stderr."""
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    return status, capsys.readouterr().err


def test_several_stages_share_a_process_and_the_first_failure_ends_it(tmp_path, capsys):
    weights, data = ("--weights", trained(tmp_path / "seed-1", "linear")), ("--sequences", sequences(tmp_path))
    extract = ["extract", *weights, "--out", tmp_path / "weights.parquet", "--structure", tmp_path / "structure.parquet"]
    evaluate = ["evaluate", *weights, *data, "--name", "LSA-2", "--out", tmp_path / "loss.parquet"]
    assert call(capsys, *extract, "then", *evaluate) == (0, "")
    for name in ("weights", "structure", "loss"):
        read_table(tmp_path / f"{name}.parquet", name)
    (tmp_path / "loss.parquet").unlink()
    status, said = call(capsys, "evaluate-lsq", "--sequences", "absent", "--out", tmp_path / "lsq.parquet", "then", *evaluate)
    assert (status, said.count("\n")) == (1, 1) and "absent" in said
    assert not (tmp_path / "loss.parquet").exists()


def test_arguments_of_all_stages_are_checked_before_the_first(tmp_path, capsys):
    weights = ("--weights", trained(tmp_path / "seed-1", "linear"))
    extract = ["extract", *weights, "--out", tmp_path / "weights.parquet", "--structure", tmp_path / "structure.parquet"]
    status, said = call(capsys, *extract, "then", "evaluate", *weights)
    assert status == 1 and "required: --sequences" in said
    assert not (tmp_path / "weights.parquet").exists()


def test_json_of_all_stages_is_checked_before_the_first(tmp_path, capsys):
    weights = ("--weights", trained(tmp_path / "seed-1", "linear"))
    extract = ["extract", *weights, "--out", tmp_path / "weights.parquet", "--structure", tmp_path / "structure.parquet"]
    learn = ["learn", "--spec", '{"name": "linear/p"}', "--seed", 1, "--out", tmp_path / "parameters.parquet"]
    status, said = call(capsys, *extract, "then", *learn)
    assert status == 1 and "a theory spec needs 'task'" in said
    assert not (tmp_path / "weights.parquet").exists()


@pytest.mark.parametrize("stage", COMMANDS)
def test_every_stage_accepts_its_arguments_and_misses_each_one(stage):
    words = COMMANDS[stage].split()
    assert parser().parse_args([stage, *words]).stage == stage
    with pytest.raises(ValueError, match=rf"required: {words[0]} \(see mesaopt {stage} --help\)"):
        parser().parse_args([stage, *words[2:]])


def test_the_stages_are_those_of_the_parser():
    known = {stage.name for stage in STAGES}
    assert set(COMMANDS) | {"orphans", "where"} <= known  # these two need no option
    assert known - set(COMMANDS) - {"orphans", "where"} <= {entry.name for entry in analyses()}, "an analysis of one's own"
    assert [parser().parse_args(words).stage for words in (["orphans"], ["where", "fig3"])] == ["orphans", "where"]


@pytest.mark.parametrize(
    "command, message",
    [
        ("", "required: STAGE"),
        ("dta", "invalid choice: 'dta'"),
        ("evaluate --weights", "expected one argument"),
        ("data --task { --seed 1 --counts evaluation=4 --sequences a --systems b", "not a task spec"),
        ('data --task {"name":"liner"} --seed 1 --counts evaluation=4 --sequences a --systems b', "liner"),
        ("data --task absent.json --seed 1 --counts evaluation=4 --sequences a --systems b", "absent.json: neither JSON nor"),
        ("data --task absent.json --seed one", "invalid int value: 'one'"),
        ("train --spec {} --weights seed-1/weights.safetensors --checkpoints c", "a run spec needs 'name'"),
        ("train --spec nonsense --weights seed-1/weights.safetensors --checkpoints c", "nonsense: neither JSON nor"),
        ("evaluate --weights absent --sequences b --name x --out c", "spec.json: no such file"),
        ("draw --figure fig2 --table a --provenance b --style {band --out c.pdf", "--style: not JSON"),
    ],
)
def test_mistakes_are_one_line_and_status_1(capsys, tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    status, said = call(capsys, *command.split())
    assert status == 1
    assert said.startswith("mesaopt: error: ") and said.count("\n") == 1 and message in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("counts", ["evaluation", "evaluation=", "evaluation=0", "evaluation=-3", "=4", "evaluation=4.5"])
def test_counts_are_checked(capsys, tmp_path, counts):
    task = TASK.to_json()
    files = ["--sequences", tmp_path / "a", "--systems", tmp_path / "b"]
    status, said = call(capsys, "data", "--task", task, "--seed", 1, "--counts", counts, *files)
    assert status == 1 and f"--counts {counts}: must be SPLIT=NUMBER" in said


def test_an_interrupt_is_no_traceback(capsys, monkeypatch):
    def interrupted(**values):
        raise KeyboardInterrupt

    monkeypatch.setattr("mesaopt.recording.record.record", interrupted)
    assert call(capsys, "record", "--results", "a", "--recorded", "b") == (130, "mesaopt: interrupted\n")


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("mesaopt.recording.record.record", lambda **values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["record", "--results", "a", "--recorded", "b"])


def test_from_sequences_to_probes(capsys, tmp_path):
    """The chain of stages that read a trained model, with a spec as text and as a file."""
    (tmp_path / "task.json").write_text(TASK.to_json())
    counts = ["evaluation=70", "probe_fit=80", "probe_score=30"]
    data, systems = ["--sequences", tmp_path / "sequences.parquet"], ["--systems", tmp_path / "systems.parquet"]
    weights = ["--weights", trained(tmp_path / "seed-1", "linear")]
    parameters = ["--parameters", tmp_path / "parameters.parquet"]
    published = ["--published-theory", replace(THEORY, form="published").to_json(), "--published-parameters", parameters[1]]
    of_theory = ["--spec", THEORY.to_json(), "--seed", 1]
    made = ["--probes", tmp_path / "probes.parquet", "--in-context", tmp_path / "in_context.parquet"]
    for arguments in (
        ["data", "--task", tmp_path / "task.json", "--seed", 1, "--counts", *counts, *data, *systems],
        ["learn", "--spec", THEORY.to_json(), "--seed", 1, "--out", parameters[1]],
        ["evaluate", *weights, *data, "--name", "LSA-2", "--out", tmp_path / "loss.parquet"],
        ["evaluate-theory", *of_theory, *parameters, *data, "--name", "P", "--out", tmp_path / "theory.parquet"],
        ["evaluate-lsq", *data, "--out", tmp_path / "lsq.parquet"],
        ["extract", *weights, "--out", tmp_path / "weights.parquet", "--structure", tmp_path / "structure.parquet"],
        ["probe", *weights, *data, "--theory", THEORY.to_json(), *parameters, *published, *made, "--controls"],
    ):
        assert call(capsys, *arguments) == (0, "")
    for path, table in (
        ("loss", "loss"), ("theory", "loss"), ("lsq", "loss"), ("weights", "weights"), ("structure", "structure"),
        ("probes", "probes"), ("in_context", "in_context"),
    ):  # fmt: skip
        assert len(read_table(tmp_path / f"{path}.parquet", table))
    assert set(read_table(tmp_path / "lsq.parquet", "loss")["predictor"]) == {"LSQ"}
    learned = json.loads((tmp_path / "parameters.json").read_text())
    assert (learned["seed"], learned["spec"]) == (1, json.loads(json.dumps(THEORY.to_dict())))


def test_a_damaged_file_is_one_line_and_nothing_is_written(capsys, tmp_path):
    weights, data = trained(tmp_path / "seed-1", "linear"), sequences(tmp_path)
    weights.write_bytes(weights.read_bytes()[:100])
    out = tmp_path / "loss.parquet"
    status, said = call(capsys, "evaluate", "--weights", weights, "--sequences", data, "--name", "LSA-2", "--out", out)
    assert status == 1 and said.count("\n") == 1 and "weights.safetensors" in said
    assert not out.exists()
    assert json.loads((weights.parent / "spec.json").read_text())["name"] == run("linear").name


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["collect", "--figure", "fig2", "--results", "absent", "--seeds", "1", "--out", "a", "--provenance", "b"],
        ["draw", "--figure", "fig2", "--table", "absent", "--provenance", "b", "--out", "c.pdf"],
    ],
)
def test_stages_without_training_do_not_import_torch(command, tmp_path):
    code = """
import sys
from mesaopt.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
sys.exit(17 if "torch" in sys.modules else status)
"""
    source = str(Path(cli.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, env={"PYTHONPATH": source}, capture_output=True, text=True
    )
    assert done.returncode == (0 if command == ["--help"] else 1), done.stderr
    assert not done.stderr or done.stderr.startswith("mesaopt: error: ")
