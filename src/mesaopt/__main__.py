"""Command line: `python -m mesaopt STAGE ... [then STAGE ...]`. Made from the list of stages; says what was wrong in one line.

A stage's module is imported when it is called, so that drawing a figure does not wait for torch.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from mesaopt.errors import InputError
from mesaopt.process.garbage import search_rarely
from mesaopt.process.home import with_a_home
from mesaopt.process.threads import one_thread
from mesaopt.spec import stages
from mesaopt.spec.stage import Stage
from mesaopt.store.digests import require_intact

SEVERAL = "Several stages run one after the other in one process when the word `then` stands between them."
_STARTED = time.time()


class Parser(argparse.ArgumentParser):
    """Wrong arguments are user errors like any other: one line, no usage text."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


@functools.cache
def parser() -> argparse.ArgumentParser:
    """All stages; `stage` of the parsed arguments is the name of the one called."""
    top = Parser(prog="mesaopt", description="Mesa-optimisation algorithms in Transformers, stage by stage.", epilog=SEVERAL)
    known = top.add_subparsers(dest="stage", metavar="STAGE", required=True)
    for entry in stages.STAGES:
        sub = known.add_parser(entry.name, help=entry.text, description=entry.text)
        exclusive = [option for option in entry.options if option.exclusive]
        either = sub.add_mutually_exclusive_group() if exclusive else sub
        for option in entry.options:
            names = (option.dest,) if option.place else (f"--{option.name}",)
            told = {**option.told} if option.place else {"dest": option.dest, **option.told}
            (either if option in exclusive else sub).add_argument(*names, **told)
    return top


def calls(arguments: Sequence[str]) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """Every stage of the command line with the values of its options by name; several are parted by the word `then`."""
    words, known = list(arguments), parser()
    while True:
        end = words.index("then") if "then" in words else len(words)
        parsed = vars(known.parse_args(words[:end]))
        entry = stages.stage(parsed["stage"])
        yield entry, {option.dest: option.read(parsed[option.dest]) for option in entry.options}
        if end == len(words):
            return
        words = words[end + 1 :]


def _run(entry: Stage, values: dict[str, Any]) -> None:
    """Check the files that the stage reads, call it, and write NAME.json beside each table NAME.parquet: where it comes from."""
    for path in entry.files_read(values):
        require_intact(path)
    entry.call(values)
    if written := entry.tables_written(values):
        from mesaopt.store.provenance import provenance, write_json  # not before the stage: it may end in an error

        for table in written:
            write_json(table.with_suffix(".json"), provenance(started=_STARTED, **entry.facts(values)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage, or several one after the other; returns the exit status.

    It is 0, 1 for anything wrong with the input, and 130 when interrupted. All arguments are checked before the first stage.
    """
    one_thread(os.environ)
    try:
        with_a_home()
        for entry, values in list(calls(sys.argv[1:] if arguments is None else arguments)):
            _run(entry, values)
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
