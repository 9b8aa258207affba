"""Every stage of the command line, announced once: from its entry come arguments, call, checks of files, rule and SLURM group.

A new analysis of trained runs is a file in mesaopt/stages/, an entry here and the columns of its table (store/tables.py). What it
reads beyond the run's folder, and values of its options, are functions in workflow/rules/analysis.smk, by name.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mesaopt.errors import InputError, unknown
from mesaopt.spec.arguments import BACKEND, DEVICE, File, Option, choice, folder, seconds, spec, text, whole
from mesaopt.spec.files import (
    HISTORY,
    PARAMETERS,
    PROVENANCE,
    PUBLISHED_PARAMETERS,
    SEQUENCES,
    SNAPSHOTS,
    SPEC,
    THEORY,
    WEIGHTS,
    run_table,
)
from mesaopt.spec.stage import Stage
from mesaopt.spec.stages_of_figures import OF_FIGURES_AND_FOLDERS
from mesaopt.spec.stages_of_first_layers import CONTROLS, OF_FIRST_LAYERS
from mesaopt.spec.stages_of_language import OF_LANGUAGE
from mesaopt.spec.stages_of_regression import OF_REGRESSION

THEORY_SPEC = "mesaopt.spec.algorithm:Theory"

STAGES = (
    # --- making
    Stage(
        "data",
        "Write evaluation and probing sequences and the systems that produced them.",
        of="task",
        arguments=(
            spec("task", "mesaopt.spec.run:Task"),
            whole("seed"),
            Option("counts", told={"required": True, "nargs": "+", "metavar": "SPLIT=N"}),
        ),
        writes=(SEQUENCES, File("systems", "data/{task}/seed-{seed}-systems.parquet", "systems")),
        function="write_data",
        code="mesaopt.data.files",
    ),
    Stage(
        "train",
        "Train one run with one or more seeds; the seed is read from each folder name seed-N.",
        of="training",
        arguments=(
            spec("spec", "mesaopt.spec.run:Run"),
            folder("checkpoints"),
            whole("threads", default=1),
            choice("device", "auto", "cpu", "cuda"),
            BACKEND,
            seconds("checkpoint-every", 20.0),
        ),
        writes=(File("weights", WEIGHTS.place, several=True),),
        beside=(
            SNAPSHOTS,
            HISTORY.holding(
                "half the squared error summed over channels, mean over t, on fixed test batches"
                " (paper, section on training details)",
                "mesaopt.data.test_sets:fixed_test_batches",
                "mesaopt.models.transformer:Transformer",
            ),
            SPEC,
            PROVENANCE,
        ),
        function="train_stage",
        code="mesaopt.training.loop",
    ),
    Stage(
        "begin",
        "Take a run from the first steps of a longer training, whose folder is named.",
        # what it writes is announced by the stage that it stands in for
        of="folder",
        arguments=(spec("spec", "mesaopt.spec.run:Run"), folder("longer")),
        writes=(WEIGHTS,),
        function="begin_stage",
    ),
    Stage(
        "learn",
        "Learn the parameters of a hand-written algorithm on the task's own loss.",
        of="algorithm",
        reads=(File("scalars", table="parameters", optional=True),),
        arguments=(
            spec("spec", THEORY_SPEC, "theory"),
            whole("seed"),
            folder("checkpoints", type=Path, metavar="FOLDER", help="without one, none are kept"),
            seconds("checkpoint-every", 20.0),
            DEVICE,
            BACKEND,
        ),
        writes=(
            PARAMETERS.called("out").holding(
                "the algorithm's parameters that minimise the task's own next-token loss (paper, Propositions 1 and 2)",
                "mesaopt.training.learning:learn",
            ),
        ),
        # by which figures made in parts tell whether their algorithms are the same
        told=("seed", "spec"),
        function="learn_stage",
        code="mesaopt.training.learning",
    ),
    # --- of a trained run
    Stage(
        "evaluate",
        "Loss by position of a trained model; its spec.json lies beside the weights.",
        of="run",
        reads=(WEIGHTS, SEQUENCES),
        arguments=(text("name", meaning="name of the series, such as LSA-6"), DEVICE),
        writes=(
            run_table("loss", option="out").holding(
                "half the squared error of the prediction of s_{t+1}, summed over channels, mean over sequences"
                " (paper, section on in-context next-token prediction)",
                "mesaopt.models.predictors:losses",
                "mesaopt.stages.evaluate:evaluate_run",
            ),
        ),
        function="evaluate_run",
        settings="mesaopt.spec.analysis:Evaluate",
        quick=True,
    ),
    Stage(
        "extract",
        "Weight products of every layer and head, and their block structure.",
        of="run",
        reads=(WEIGHTS,),
        writes=(
            run_table("weights", name="products", option="out").holding(
                "W_K^T W_Q and W_O W_V of every head (paper, section on linear self-attention)",
                "mesaopt.models.products:layer_products",
                "mesaopt.stages.extract:weights_table",
            ),
            run_table("structure").holding(
                "statistics of the products and of their n_obs x n_obs blocks; eta as in Proposition 1"
                " (paper, section on one linear self-attention layer)",
                "mesaopt.stages.extract:block_structure",
                "mesaopt.stages.extract:sparsity",
                "mesaopt.stages.extract:joint_block_energy",
                "mesaopt.stages.extract:implied_eta",
            ),
        ),
        function="extract_run",
        quick=True,
    ),
    Stage(
        "interpolate",
        "Test loss of compressed and averaged weights along a second training.",
        of="run",
        # weights of another run, whose products are compressed
        reads=(File("extracted"), SNAPSHOTS),
        arguments=(DEVICE,),
        writes=(
            run_table("interpolation", option="out").holding(
                "loss of products of which every block is (mean of its diagonal) I, or of their mean with the trained ones"
                " (paper, section on deep linear self-attention, and its appendix on compression)",
                "mesaopt.models.products:compress",
                "mesaopt.models.products:average",
                "mesaopt.stages.interpolate:interpolate_run",
            ),
        ),
        function="interpolate_run",
        quick=True,
        early=True,
    ),
    Stage(
        "match",
        "Heads of two trainings from one initialisation, matched, and what averaging them costs.",
        of="run",
        # snapshots of the training that came first
        reads=(File("first"), SNAPSHOTS),
        arguments=(DEVICE,),
        writes=(
            run_table("matching").holding(
                "which head of the one training is most like which of the other, by the inner product of the tensors OV x QK;"
                " relative distance of their products (this project's own; not in the paper)",
                "mesaopt.models.matching:match",
                "mesaopt.models.matching:distances",
            ),
            run_table("matched_loss", name="losses").holding(
                "loss of averages of products of two trainings, as heads stand and matched"
                " (this project's own; paper, section on deep linear self-attention, for the average as heads stand)",
                "mesaopt.models.matching:matched",
                "mesaopt.models.products:average",
                "mesaopt.stages.match:match_run",
            ),
        ),
        function="match_run",
        quick=True,
        early=True,
    ),
    Stage(
        "probe",
        "Linear probes after every layer at every position, and the in-context loss by layer.",
        of="run",
        reads=(WEIGHTS, SEQUENCES, PARAMETERS, PUBLISHED_PARAMETERS),
        arguments=(
            spec("theory", THEORY_SPEC),
            spec("published-theory", THEORY_SPEC),
            CONTROLS,
            DEVICE,
        ),
        writes=(
            run_table("probes").holding(
                "least squares without intercept from the residual stream after a layer to s_{t+1},"
                " or to the preconditioned input (S S^T + I/lambda)^-1 s_t, approximated as published or as in the text"
                " (paper, section on deep linear self-attention: probing)",
                "mesaopt.analyses.linear_probes:fit",
                "mesaopt.analyses.linear_probes:score",
                "mesaopt.analyses.probe_targets:make_targets",
            ),
            run_table("in_context", option="in-context", optional=True).holding(
                "L_t(Phi) = 1/2 sum_{t'<t} |s_{t'+1} - Phi s_{t'}|^2, by t-1, of the linear map read out after a layer"
                " (paper, section on mesa-optimisation: the mesa-objective)",
                "mesaopt.analyses.in_context:in_context_loss",
            ),
        ),
        function="probe_stage",
        settings="mesaopt.spec.analysis:Probe",
        quick=True,
        early=True,
    ),
    Stage(
        "control-probe",
        "What of the next element the preconditioned input alone would tell a linear probe.",
        of="run",
        reads=(SEQUENCES, PARAMETERS, PUBLISHED_PARAMETERS),
        arguments=(spec("theory", THEORY_SPEC), spec("published-theory", THEORY_SPEC), DEVICE),
        writes=(
            run_table("control_probe", option="out").holding(
                "least squares without intercept from the preconditioned input (S S^T + I/lambda)^-1 s_t to s_{t+1}"
                " (paper, section on deep linear self-attention: probing)",
                "mesaopt.analyses.control_probe:control_table",
            ),
        ),
        function="control_probe_stage",
        settings="mesaopt.spec.analysis:Samples",
        quick=True,
    ),
    *OF_FIRST_LAYERS,
    *OF_REGRESSION,
    # --- of hand-written algorithms
    Stage(
        "evaluate-theory",
        "Loss by position of a hand-written algorithm with learned parameters.",
        of="algorithm",
        reads=(PARAMETERS, SEQUENCES),
        arguments=(
            spec("spec", THEORY_SPEC, "theory"),
            whole("seed"),
            text("name", meaning="name of the series, such as GD-1"),
            DEVICE,
        ),
        writes=(
            File("loss", f"{THEORY}/loss/seed-{{seed}}.parquet", "loss", option="out").holding(
                "half the squared error of the prediction of s_{t+1}, summed over channels, mean over sequences"
                " (paper, section on in-context next-token prediction)",
                "mesaopt.models.predictors:losses",
                "mesaopt.stages.evaluate:evaluate_theory",
            ),
        ),
        module="mesaopt.stages.evaluate",
        function="evaluate_theory",
        settings="mesaopt.spec.analysis:Evaluate",
    ),
    Stage(
        "evaluate-lsq",
        "Loss by position of regularised least squares.",
        of="task",
        reads=(SEQUENCES,),
        arguments=(Option("inverse-lam", told={"type": float, "default": 0.001}), Option("name", told={"default": "LSQ"})),
        writes=(File("out", table="loss"),),
        module="mesaopt.stages.evaluate",
        function="evaluate_lsq",
    ),
    *OF_LANGUAGE,
    *OF_FIGURES_AND_FOLDERS,
)


def stage(name: str) -> Stage:
    """The entry of that name; raises `InputError` in one line when there is none."""
    for entry in STAGES:
        if entry.name == name:
            return entry
    raise InputError(unknown(name, "stage", [entry.name for entry in STAGES], "python -m mesaopt --help"))


def analyses() -> list[Stage]:
    """The stages of a trained run, in their order."""
    return [entry for entry in STAGES if entry.of == "run"]


def writer(table: str) -> Stage | None:
    """The analysis that writes this kind of table beside a run's weights; None where none does (a training's history)."""
    return next((entry for entry in analyses() if table in {file.table for file in entry.writes}), None)


def origin(table: str, algorithm: bool) -> tuple[Stage, File]:
    """What makes this kind of table of a hand-written `algorithm` or of a run, and the file that says what is in it."""
    for entry in STAGES:
        for file in (*entry.writes, *entry.beside):
            if file.equation and file.table == table and file.place.startswith(THEORY) == algorithm:
                return entry, file
    raise KeyError(table)


def jobs(wanted: Mapping[str, Iterable[str]]) -> dict[tuple[str, ...], list[str]]:
    """Runs by the analyses that one job makes of them, from the analyses wanted by run: the quick ones share a process."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for run, names in wanted.items():
        quick = tuple(sorted(name for name in names if stage(name).quick))
        alone = [(name,) for name in sorted(names) if not stage(name).quick]
        for group in [quick, *alone] if quick else alone:
            groups.setdefault(group, []).append(run)
    return groups
