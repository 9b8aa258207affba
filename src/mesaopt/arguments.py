"""Arguments of the command line: what each stage reads and writes."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mesaopt.errors import InputError
from mesaopt.store.environment import PROJECT

SEVERAL = "Several stages run one after the other in one process when the word `then` stands between them."


class Parser(argparse.ArgumentParser):
    """Wrong arguments are user errors like any other: one line, no usage text."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _path(parser: argparse.ArgumentParser, *names: str, **options: Any) -> None:
    for name in names:
        parser.add_argument(name, type=Path, metavar="FILE", **({"required": True} | options))


def parser() -> argparse.ArgumentParser:
    """All stages; `stage` of the parsed arguments is the name of the one called."""
    top = Parser(prog="mesaopt", description="Mesa-optimisation algorithms in Transformers, stage by stage.", epilog=SEVERAL)
    stages = top.add_subparsers(dest="stage", metavar="STAGE", required=True)

    def stage(name: str, text: str) -> argparse.ArgumentParser:
        return stages.add_parser(name, help=text, description=text)

    _add_making(stage)
    _add_evaluating(stage)
    _add_figures(stage)
    _add_agreement(stage)
    _add_checks(stage)
    return top


def _add_making(stage: Callable[..., argparse.ArgumentParser]) -> None:
    sub = stage("data", "Write evaluation and probing sequences and the systems that produced them.")
    sub.add_argument("--task", required=True, metavar="JSON")
    sub.add_argument("--seed", required=True, type=int)
    sub.add_argument("--counts", required=True, nargs="+", metavar="SPLIT=N")
    _path(sub, "--sequences", "--systems")

    sub = stage("train", "Train one run with one or more seeds; the seed is read from each folder name seed-N.")
    sub.add_argument("--spec", required=True, metavar="JSON")
    _path(sub, "--weights", nargs="+")
    sub.add_argument("--checkpoints", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--threads", type=int, default=1)
    sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    sub.add_argument("--backend", choices=["auto", "torch", "native"], default="auto")
    sub.add_argument("--checkpoint-every", type=float, default=20.0, metavar="SECONDS")

    sub = stage("learn", "Learn the parameters of a hand-written algorithm on the task's own loss.")
    sub.add_argument("--spec", required=True, metavar="JSON")
    sub.add_argument("--seed", required=True, type=int)
    _path(sub, "--out")


def _add_evaluating(stage: Callable[..., argparse.ArgumentParser]) -> None:
    sub = stage("evaluate", "Loss by position of a trained model; its spec.json lies beside the weights.")
    _path(sub, "--weights", "--sequences", "--out")
    sub.add_argument("--name", required=True, help="name of the series, such as LSA-6")

    sub = stage("evaluate-theory", "Loss by position of a hand-written algorithm with learned parameters.")
    sub.add_argument("--spec", required=True, metavar="JSON")
    _path(sub, "--parameters", "--sequences", "--out")
    sub.add_argument("--name", required=True, help="name of the series, such as GD-1")

    sub = stage("evaluate-lsq", "Loss by position of regularised least squares.")
    sub.add_argument("--inverse-lam", type=float, default=0.001)
    _path(sub, "--sequences", "--out")
    sub.add_argument("--name", default="LSQ")

    sub = stage("extract", "Weight products of every layer and head, and their block structure.")
    _path(sub, "--weights", "--out", "--structure")

    sub = stage("interpolate", "Test loss of compressed and averaged weights along a second training.")
    _path(sub, "--extracted", "--snapshots", "--out")

    sub = stage("probe", "Linear probes after every layer at every position, and the in-context loss by layer.")
    _path(sub, "--weights", "--sequences", "--parameters", "--probes")
    sub.add_argument("--theory", required=True, metavar="JSON")
    _path(sub, "--in-context", required=False)
    sub.add_argument("--controls", action="store_true", help="also the untrained model, targets of other sequences, test batches")


def _add_figures(stage: Callable[..., argparse.ArgumentParser]) -> None:
    sub = stage("collect", "Gather every drawn value of a figure into one table.")
    sub.add_argument("--figure", required=True)
    sub.add_argument("--results", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--seeds", required=True, nargs="+", type=int)
    _path(sub, "--out", "--provenance")
    text = "labels and colours of runs by name; default: those of config/experiments.yaml"
    sub.add_argument("--looks", metavar="JSON", help=text)

    sub = stage("where", "Say which file, rows, stage, settings, equation and code stand behind a drawn value.")
    sub.add_argument("figure", metavar="FIGURE")
    sub.add_argument("panel", nargs="?", metavar="PANEL", help="default: list the panels of the figure")
    sub.add_argument("series", nargs="?", metavar="SERIES", help="default: list the series of the panel")
    sub.add_argument("--scale", help="scale of files and settings; default: that of config/config.yaml")

    sub = stage("draw", "Draw a figure from its table; the format follows the file name.")
    sub.add_argument("--figure", required=True)
    _path(sub, "--table", "--provenance", "--out")
    sub.add_argument("--style", default="{}", metavar="JSON")
    sub.add_argument("--strict-environment", action="store_true", help="refuse results of different environments")


def _add_agreement(stage: Callable[..., argparse.ArgumentParser]) -> None:
    def about(name: str, text: str) -> argparse.ArgumentParser:
        sub = stage(name, text)
        sub.add_argument("--project", type=Path, default=PROJECT, metavar="FOLDER", help="where config/ lies")
        _path(sub, "--out")
        return sub

    sub = about("judge", "Judge every claim of config/claims.yaml on a folder of figure tables.")
    sub.add_argument("--tables", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--scale", required=True)
    sub.add_argument("--without", nargs="*", default=[], metavar="FIGURE", help="figures whose claims are left out")

    sub = about("draw-agreement", "Draw the verdicts on all claims; the format follows the file name.")
    _path(sub, "--agreement")
    sub.add_argument("--scale", required=True)
    sub.add_argument("--style", default="{}", metavar="JSON")

    sub = stage("spread", "Compare the spread of curves over training seeds with that over test batches.")
    sub.add_argument("--tables", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--figures", nargs="*", default=[], metavar="FIGURE")
    _path(sub, "--out")

    sub = about("agreement-page", "Write what was reproduced and what was not, in Markdown.")
    _path(sub, "--agreement", "--spread")
    _path(sub, "--curves", required=False)
    sub.add_argument("--scale", required=True)

    sub = stage("page-html", "The same page as HTML, for the report.")
    _path(sub, "--page", "--out")

    sub = about("compare-curves", "Compare our curves with published ones, point by point.")
    sub.add_argument("--tables", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--published", required=True, type=Path, metavar="FOLDER")

    sub = about("overlay", "Draw the curves of one figure with the published ones as dots.")
    sub.add_argument("--figure", required=True)
    _path(sub, "--table")
    sub.add_argument("--published", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--style", default="{}", metavar="JSON")


def _add_checks(stage: Callable[..., argparse.ArgumentParser]) -> None:
    sub = stage("compare", "Compare two folders of results file by file; exit status 1 if they differ.")
    sub.add_argument("--first", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--second", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--tolerance", type=float, default=0.0, help="allowed fraction of a column's largest value; default: bits")
    sub.add_argument("--more", action="store_true", help="the second folder may hold more files")

    sub = stage("environment", "Compare what runs with the declared environment; exit status 1 if it is another.")
    _path(sub, "--out")
    sub.add_argument("--project", type=Path, default=PROJECT, metavar="FOLDER", help="where environment.yml lies")

    sub = stage("record", "Add the tables of a finished paper run to the recorded ones; refuses a changed work tree.")
    sub.add_argument("--results", required=True, type=Path, metavar="FOLDER")
    sub.add_argument("--recorded", required=True, type=Path, metavar="FOLDER")
    text = "figures whose recorded tables are replaced, even where seeds are lost"
    sub.add_argument("--replace", nargs="+", default=[], metavar="FIGURE", help=text)

    sub = stage("orphans", "SLURM jobs of this folder that outlived their Snakemake; exit status 1 if any are left.")
    choice = sub.add_mutually_exclusive_group()
    choice.add_argument("--cancel", action="store_true", help="cancel them, and wait until they have ended")
    choice.add_argument("--wait", action="store_true", help="wait until they have finished")
    sub.add_argument("--folder", type=Path, default=Path(), metavar="FOLDER", help="where Snakemake ran; default: here")
