"""Command line: `python -m mesaopt STAGE ...`. Reads arguments, calls one stage, says what was wrong in one line.

Stages are imported when they are called, so that drawing a figure does not wait for torch.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mesaopt.errors import InputError
from mesaopt.spec import Task, Theory


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are user errors like any other: one line, no usage text."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _text(value: str) -> str:
    """JSON given as such, or in a file."""
    if value.lstrip().startswith("{"):
        return value
    try:
        return Path(value).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{value}: neither JSON nor a readable file ({error.strerror})") from None


def _counts(pairs: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pair in pairs:
        split, _, number = pair.partition("=")
        if not (split and number.isdigit() and int(number) >= 1):
            raise InputError(f"--counts {pair}: must be SPLIT=NUMBER, such as evaluation=256")
        counts[split] = int(number)
    return counts


def _data(args: argparse.Namespace) -> None:
    from mesaopt.data.files import write_sequences

    write_sequences(Task.from_json(_text(args.task)), args.seed, _counts(args.counts), args.sequences, args.systems)


def _train(args: argparse.Namespace) -> None:
    from mesaopt.train import train_stage

    args.spec = _text(args.spec)
    train_stage(args)


def _learn(args: argparse.Namespace) -> None:
    from mesaopt.algorithms.stage import learn_stage

    learn_stage(Theory.from_json(_text(args.spec)), args.seed, args.out)


def _evaluate(args: argparse.Namespace) -> None:
    from mesaopt.evaluate import evaluate_run

    evaluate_run(args.weights, args.sequences, args.name, args.out)


def _evaluate_theory(args: argparse.Namespace) -> None:
    from mesaopt.evaluate import evaluate_theory

    evaluate_theory(Theory.from_json(_text(args.spec)), args.parameters, args.sequences, args.name, args.out)


def _evaluate_lsq(args: argparse.Namespace) -> None:
    from mesaopt.evaluate import evaluate_lsq

    evaluate_lsq(args.inverse_lam, args.sequences, args.name, args.out)


def _extract(args: argparse.Namespace) -> None:
    from mesaopt.extract import extract_run

    extract_run(args.weights, args.out, args.structure)


def _interpolate(args: argparse.Namespace) -> None:
    from mesaopt.interpolate import interpolate_run

    interpolate_run(args.extracted, args.snapshots, args.out)


def _probe(args: argparse.Namespace) -> None:
    from mesaopt.probe import probe_run

    theory = Theory.from_json(_text(args.theory))
    probe_run(args.weights, args.sequences, theory, args.parameters, args.probes, shuffled=args.shuffled)
    if args.in_context:
        from mesaopt.in_context import in_context_run

        in_context_run(args.weights, args.sequences, args.in_context)


def _collect(args: argparse.Namespace) -> None:
    from mesaopt.figures.collect import collect

    collect(args.figure, args.results, args.seeds, args.out, args.provenance)


def _draw(args: argparse.Namespace) -> None:
    from mesaopt.figures.draw import draw

    draw(args.figure, args.table, args.provenance, json.loads(_text(args.style)), args.out)


def _record(args: argparse.Namespace) -> None:
    from mesaopt.record import record

    record(args.results, args.recorded)


def _path(parser: argparse.ArgumentParser, *names: str, **options: Any) -> None:
    for name in names:
        parser.add_argument(name, type=Path, metavar="FILE", **({"required": True} | options))


def parser() -> argparse.ArgumentParser:
    """All subcommands; each sets `handler`."""
    top = _Parser(prog="mesaopt", description="Mesa-optimisation algorithms in Transformers, stage by stage.")
    stages = top.add_subparsers(metavar="STAGE", required=True)

    def stage(name: str, handler: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = stages.add_parser(name, help=text, description=text)
        sub.set_defaults(handler=handler)
        return sub

    _add_making(stage)
    _add_evaluating(stage)
    _add_figures(stage)
    return top


def _add_making(stage: Callable[..., argparse.ArgumentParser]) -> None:
    sub = stage("data", _data, "Write evaluation and probing sequences and the systems that produced them.")
    sub.add_argument("--task", required=True, metavar="JSON")
    sub.add_argument("--seed", required=True, type=int)
    sub.add_argument("--counts", required=True, nargs="+", metavar="SPLIT=N")
    _path(sub, "--sequences", "--systems")

    sub = stage("train", _train, "Train one run with one or more seeds; the seed is read from each folder name seed-N.")
    sub.add_argument("--spec", required=True, metavar="JSON")
    _path(sub, "--weights", nargs="+")
    sub.add_argument("--checkpoints", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--threads", type=int, default=1)
    sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    sub.add_argument("--backend", choices=["auto", "torch", "native"], default="auto")
    sub.add_argument("--checkpoint-every", type=float, default=20.0, metavar="SECONDS")

    sub = stage("learn", _learn, "Learn the parameters of a hand-written algorithm on the task's own loss.")
    sub.add_argument("--spec", required=True, metavar="JSON")
    sub.add_argument("--seed", required=True, type=int)
    _path(sub, "--out")


def _add_evaluating(stage: Callable[..., argparse.ArgumentParser]) -> None:
    sub = stage("evaluate", _evaluate, "Loss by position of a trained model; its spec.json lies beside the weights.")
    _path(sub, "--weights", "--sequences", "--out")
    sub.add_argument("--name", required=True, help="name of the series, such as LSA-6")

    sub = stage("evaluate-theory", _evaluate_theory, "Loss by position of a hand-written algorithm with learned parameters.")
    sub.add_argument("--spec", required=True, metavar="JSON")
    _path(sub, "--parameters", "--sequences", "--out")
    sub.add_argument("--name", required=True, help="name of the series, such as GD-1")

    sub = stage("evaluate-lsq", _evaluate_lsq, "Loss by position of regularised least squares.")
    sub.add_argument("--inverse-lam", type=float, default=0.001)
    _path(sub, "--sequences", "--out")
    sub.add_argument("--name", default="LSQ")

    sub = stage("extract", _extract, "Weight products of every layer and head, and their block structure.")
    _path(sub, "--weights", "--out", "--structure")

    sub = stage("interpolate", _interpolate, "Test loss of compressed and averaged weights along a second training.")
    _path(sub, "--extracted", "--snapshots", "--out")

    sub = stage("probe", _probe, "Linear probes after every layer at every position, and the in-context loss by layer.")
    _path(sub, "--weights", "--sequences", "--parameters", "--probes")
    sub.add_argument("--theory", required=True, metavar="JSON")
    _path(sub, "--in-context", required=False)
    sub.add_argument("--shuffled", action="store_true", help="control: targets of other sequences")


def _add_figures(stage: Callable[..., argparse.ArgumentParser]) -> None:
    sub = stage("collect", _collect, "Gather every drawn value of a figure into one table.")
    sub.add_argument("--figure", required=True)
    sub.add_argument("--results", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--seeds", required=True, nargs="+", type=int)
    _path(sub, "--out", "--provenance")

    sub = stage("draw", _draw, "Draw a figure from its table; the format follows the file name.")
    sub.add_argument("--figure", required=True)
    _path(sub, "--table", "--provenance", "--out")
    sub.add_argument("--style", default="{}", metavar="JSON")

    sub = stage("record", _record, "Keep the tables of a finished paper run as the recorded ones; refuses a changed work tree.")
    sub.add_argument("--results", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--recorded", required=True, type=Path, metavar="FOLDER")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage; returns the exit status: 0, 1 for anything wrong with the input, 130 when interrupted."""
    # one thread a job: the workflow fills the cores with jobs, and threads beyond the cores slow everything down
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        args = parser().parse_args(arguments)
        args.handler(args)
    except InputError as error:
        print(f"mesaopt: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("mesaopt: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
