"""Command line: `python -m mesaopt STAGE ... [then STAGE ...]`. Reads arguments, calls stages, says
what was wrong in one line.

Stages are imported when they are called, so that drawing a figure does not wait for torch.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mesaopt.arguments import parser
from mesaopt.errors import InputError
from mesaopt.files_of_stages import results_read, say_where_from
from mesaopt.process.garbage import search_rarely
from mesaopt.process.threads import one_thread
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.run import Task
from mesaopt.store.digests import require_intact


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
    from mesaopt.stages.train import train_stage

    args.spec = _text(args.spec)
    train_stage(args)


def _learn(args: argparse.Namespace) -> None:
    from mesaopt.stages.learn import learn_stage

    args.spec = _text(args.spec)
    learn_stage(Theory.from_json(args.spec), args.seed, args.out)


def _evaluate(args: argparse.Namespace) -> None:
    from mesaopt.stages.evaluate import evaluate_run

    evaluate_run(args.weights, args.sequences, args.name, args.out)


def _evaluate_theory(args: argparse.Namespace) -> None:
    from mesaopt.stages.evaluate import evaluate_theory

    evaluate_theory(Theory.from_json(_text(args.spec)), args.parameters, args.sequences, args.name, args.out)


def _evaluate_lsq(args: argparse.Namespace) -> None:
    from mesaopt.stages.evaluate import evaluate_lsq

    evaluate_lsq(args.inverse_lam, args.sequences, args.name, args.out)


def _extract(args: argparse.Namespace) -> None:
    from mesaopt.stages.extract import extract_run

    extract_run(args.weights, args.out, args.structure)


def _interpolate(args: argparse.Namespace) -> None:
    from mesaopt.stages.interpolate import interpolate_run

    interpolate_run(args.extracted, args.snapshots, args.out)


def _probe(args: argparse.Namespace) -> None:
    from mesaopt.stages.probe import probe_run, read_preconditioner
    from mesaopt.store.tables import write_table

    preconditioner = read_preconditioner(Theory.from_json(_text(args.theory)), args.parameters)
    probes, in_context = probe_run(args.weights, args.sequences, preconditioner, args.controls, args.in_context is not None)
    write_table(probes, "probes", args.probes)
    if in_context is not None:
        write_table(in_context, "in_context", args.in_context)


def _collect(args: argparse.Namespace) -> None:
    from mesaopt.figures.collect import collect
    from mesaopt.figures.looks import from_json

    looks = None if args.looks is None else from_json(_text(args.looks))
    collect(args.figure, args.results, args.seeds, args.out, args.provenance, looks)


def _where(args: argparse.Namespace) -> None:
    from mesaopt.figures.where import where_stage

    where_stage(args.figure, args.panel, args.series, args.scale)


def _draw(args: argparse.Namespace) -> None:
    from mesaopt.figures.draw import draw

    draw(args.figure, args.table, args.provenance, _style(args.style), args.out, args.strict_environment)


def _style(text: str) -> dict[str, Any]:
    try:
        return json.loads(_text(text))
    except json.JSONDecodeError as error:
        raise InputError(f"--style: not JSON ({error})") from None


def _judge(args: argparse.Namespace) -> None:
    from mesaopt.agreement.judge import judge_stage

    judge_stage(args.project, args.tables, args.scale, args.without, args.out)


def _draw_agreement(args: argparse.Namespace) -> None:
    from mesaopt.agreement.draw import draw_stage

    draw_stage(args.project, args.agreement, args.scale, _style(args.style), args.out)


def _agreement_page(args: argparse.Namespace) -> None:
    from mesaopt.agreement.page import page_stage

    page_stage(args.project, args.agreement, args.curves, args.spread, args.scale, args.out)


def _page_html(args: argparse.Namespace) -> None:
    from mesaopt.agreement.html import html_stage

    html_stage(args.page, args.out)


def _spread(args: argparse.Namespace) -> None:
    from mesaopt.agreement.spread import spread_stage

    spread_stage(args.tables, args.figures, args.out)


def _compare_curves(args: argparse.Namespace) -> None:
    from mesaopt.agreement.curves import compare_curves_stage

    compare_curves_stage(args.project, args.tables, args.published, args.out)


def _overlay(args: argparse.Namespace) -> None:
    from mesaopt.agreement.overlay import overlay_stage

    overlay_stage(args.project, args.figure, args.table, args.published, _style(args.style), args.out)


def _compare(args: argparse.Namespace) -> None:
    from mesaopt.store.compare import compare_stage

    compare_stage(args.first, args.second, args.tolerance, args.more)


def _environment(args: argparse.Namespace) -> None:
    from mesaopt.store.drift import environment_stage

    environment_stage(args.project, args.out)


def _record(args: argparse.Namespace) -> None:
    from mesaopt.recording.record import record

    record(args.results, args.recorded, args.replace)


def _orphans(args: argparse.Namespace) -> None:
    from mesaopt.process.orphans import orphans_stage

    orphans_stage(args.folder, args.cancel, args.wait)


HANDLERS: dict[str, Callable[[argparse.Namespace], None]] = {
    "agreement-page": _agreement_page,
    "collect": _collect,
    "compare": _compare,
    "compare-curves": _compare_curves,
    "data": _data,
    "draw": _draw,
    "draw-agreement": _draw_agreement,
    "environment": _environment,
    "evaluate": _evaluate,
    "evaluate-lsq": _evaluate_lsq,
    "evaluate-theory": _evaluate_theory,
    "extract": _extract,
    "interpolate": _interpolate,
    "judge": _judge,
    "learn": _learn,
    "orphans": _orphans,
    "overlay": _overlay,
    "page-html": _page_html,
    "probe": _probe,
    "record": _record,
    "spread": _spread,
    "train": _train,
    "where": _where,
}


def _stages(arguments: Sequence[str]) -> Iterator[argparse.Namespace]:
    """The arguments of every stage; several are parted by the word `then`."""
    words = list(arguments)
    while "then" in words:
        end = words.index("then")
        yield parser().parse_args(words[:end])
        words = words[end + 1 :]
    yield parser().parse_args(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage, or several one after the other; returns the exit status.

    It is 0, 1 for anything wrong with the input, and 130 when interrupted. All arguments are checked before the first stage.
    """
    one_thread(os.environ)
    try:
        for args in list(_stages(sys.argv[1:] if arguments is None else arguments)):
            for path in results_read(args):
                require_intact(path)
            HANDLERS[args.stage](args)
            say_where_from(args)
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
    search_rarely()
    sys.exit(main())
