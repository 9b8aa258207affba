# The project as seen from the working folder: its modules, what ships with it, and how a mistake is said.

import os
import sys
from functools import cache
from os import environ
from pathlib import Path


def stop(error):
    raise SystemExit(f"mesaopt: error: {error}")


if not ROOT.is_dir():
    stop(f"{ROOT} is no folder: the workflow needs a clone of the project, an address is not enough")
if any(workflow.modifier.path_modifier.replace_prefix(folder) != folder for folder in ("results/", "figures/")):
    stop("results lie where the rules say, so this module takes no prefix: give another folder with `snakemake --directory`")

SOURCES = str(ROOT / "src")


def search_here_first(path):
    """A list of folders that begins with this project's sources; an empty entry would mean the working folder."""
    return [SOURCES, *(folder for folder in path if folder and folder != SOURCES)]


# Jobs use this source tree and this interpreter's environment, whether or not it was activated or the package installed, and
# never a module that lies in the working folder (`python -P`, here and where SLURM starts Snakemake again). Here the working
# folder and that of the Snakefile come last. A workflow that uses this one as a module keeps its own habits.
environ["PYTHONPATH"] = os.pathsep.join(search_here_first(environ.get("PYTHONPATH", "").split(os.pathsep)))
environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")])
sys.path[:] = sorted(search_here_first(sys.path), key=lambda folder: folder in (os.getcwd(), str(ROOT)))
if workflow.modifier.is_main_snakefile():
    environ["PYTHONSAFEPATH"] = "1"

from mesaopt.errors import InputError
from mesaopt.process import idle
from mesaopt.process.home import with_a_home

# so that a lone training uses all cores
environ[idle.VARIABLE] = f"{os.getpid()} {workflow.cores or 1}"

try:
    with_a_home()
except InputError as error:
    stop(error)


def shipped(path):
    """A file or folder of the project. In a clone's own folder its name is relative, so that a clone may move."""
    return path if ROOT == Path.cwd() else str(ROOT / path)


ENVIRONMENT = str(ROOT / "environment.yml")
RECORDED = shipped("results/recorded")


def results_of(scale):
    """The folder of a scale; the recorded one ships with the project."""
    return RECORDED if scale == "recorded" else f"results/{scale}"


def tables_of(scale):
    """The folder of its figure tables."""
    return f"{results_of(scale)}/tables"


def tables_of_scale(wildcards):
    return tables_of(wildcards.any_scale)
