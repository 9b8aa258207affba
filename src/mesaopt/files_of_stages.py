"""Which files of a command line are results: those that a stage reads, and those that it writes."""

import argparse
from pathlib import Path

from mesaopt.spec.algorithm import Theory
from mesaopt.store.provenance import provenance, write_json

#: stages whose files are all outputs
MAKING = ("data", "train")
#: the tables that a stage writes, by argument; each gets a JSON beside it (trainings and figures write their own)
WRITTEN = {
    "data": ("sequences", "systems"),
    "compare-curves": ("out",),
    "evaluate": ("out",),
    "evaluate-lsq": ("out",),
    "evaluate-theory": ("out",),
    "extract": ("out", "structure"),
    "judge": ("out",),
    "interpolate": ("out",),
    "learn": ("out",),
    "probe": ("probes", "in_context"),
    "spread": ("out",),
}


def results_read(args: argparse.Namespace) -> list[Path]:
    """Results of earlier stages that the command line names."""
    if args.stage in MAKING:
        return []
    names = ("weights", "sequences", "parameters", "extracted", "snapshots", "table", "agreement", "curves", "spread")
    return [path for name in names if (path := getattr(args, name, None)) is not None]


def say_where_from(args: argparse.Namespace) -> None:
    """Write NAME.json beside each table NAME.parquet of the stage: commit, versions and their fingerprint, machine, times.

    Of learned algorithms also seed and settings, by which figures made in parts tell whether theirs are the same.
    """
    learned = {"seed": args.seed, "spec": Theory.from_json(args.spec).to_dict()} if args.stage == "learn" else {}
    for table in filter(None, (getattr(args, name) for name in WRITTEN.get(args.stage, ()))):
        write_json(table.with_suffix(".json"), provenance(stage=args.stage, **learned))
