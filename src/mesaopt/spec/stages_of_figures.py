"""The stages after the analyses: of a figure, of the tables of all figures, of whole folders. `stages.STAGES` holds them, too."""

from pathlib import Path

from mesaopt.spec.arguments import File, Option, flag, folder, several, spec, text
from mesaopt.spec.files import AGREEMENT, CURVES, PAGE, PROJECT, RECORD, SPREAD, TABLE, TEACHERS
from mesaopt.spec.stage import Stage

SCALE = text("scale")
FIGURE = text("figure", "name")
OUT = File("out")
SEEDS = Option("seeds", told={"required": True, "nargs": "+", "type": int})
LOOKS = "labels and colours of runs by name; default: those of config/experiments.yaml"
STYLE = Option("style", "options", json="dict", told={"default": "{}", "metavar": "JSON"})
CONFIG = folder("project", default=PROJECT, help="where config/ lies")


OF_FIGURES_AND_FOLDERS = (
    # --- of figures
    Stage(
        "collect",
        "Gather every drawn value of a figure into one table.",
        of="figure",
        arguments=(
            FIGURE,
            folder("results"),
            SEEDS,
            Option("looks", json="mesaopt.figures.looks:from_json", told={"metavar": "JSON", "help": LOOKS}),
        ),
        writes=(TABLE.called("out"), RECORD),
        module="mesaopt.figures.collect",
        function="collect",
    ),
    Stage(
        "draw",
        "Draw a figure from its table; the format follows the file name.",
        of="figure",
        reads=(TABLE, RECORD),
        arguments=(FIGURE, STYLE, flag("strict-environment", "refuse results of different environments", "strict")),
        writes=(OUT,),
        module="mesaopt.figures.draw",
        function="draw",
    ),
    Stage(
        "sweep-table",
        "Gather one value of every run of a sweep into a table.",
        of="figure",
        arguments=(spec("sweep", "mesaopt.spec.sweep:Sweep"), folder("results"), SEEDS),
        writes=(TABLE.called("out"), RECORD),
        module="mesaopt.figures.sweep_table",
        function="sweep_table_stage",
    ),
    Stage(
        "draw-sweep",
        "Draw the table of a sweep; the format follows the file name.",
        of="figure",
        reads=(TABLE, RECORD),
        arguments=(STYLE,),
        writes=(OUT,),
        module="mesaopt.figures.sweep",
        function="draw_sweep_stage",
    ),
    Stage(
        "where",
        "Say which file, rows, stage, settings, equation and code stand behind a drawn value.",
        of="figure",
        arguments=(
            Option("figure", "name", told={"metavar": "FIGURE"}, place=True),
            Option("panel", told={"nargs": "?", "metavar": "PANEL", "help": "default: list the panels"}, place=True),
            Option("series", told={"nargs": "?", "metavar": "SERIES", "help": "default: list the series"}, place=True),
            Option("scale", told={"help": "scale of files and settings; default: that of config/config.yaml"}),
        ),
        module="mesaopt.figures.where",
        function="where_stage",
    ),
    # --- of the tables of all figures
    Stage(
        "judge",
        "Judge every claim of config/claims.yaml on a folder of figure tables.",
        of="tables",
        arguments=(
            CONFIG,
            folder("tables"),
            SCALE,
            several("without", "*", "FIGURE", "figures whose claims are left out"),
            folder("published", help="published tables, on which claims are computed as well"),
        ),
        writes=(AGREEMENT.called("out"), TEACHERS.if_any()),
        module="mesaopt.agreement.judge",
        function="judge_stage",
    ),
    Stage(
        "draw-agreement",
        "Draw the verdicts on all claims; the format follows the file name.",
        of="tables",
        reads=(AGREEMENT,),
        arguments=(CONFIG, SCALE, STYLE),
        writes=(OUT,),
        module="mesaopt.agreement.draw",
        function="draw_stage",
    ),
    Stage(
        "spread",
        "Compare the spread of curves over training seeds with that over test batches.",
        of="tables",
        arguments=(folder("tables"), several("figures", "*", "FIGURE")),
        writes=(SPREAD.called("out"),),
        module="mesaopt.agreement.spread",
        function="spread_stage",
    ),
    Stage(
        "agreement-page",
        "Write what was reproduced and what was not, in Markdown.",
        of="tables",
        reads=(AGREEMENT, SPREAD, CURVES.if_any(), TEACHERS.if_any()),
        arguments=(CONFIG, SCALE),
        writes=(PAGE.called("out"),),
        module="mesaopt.agreement.page",
        function="page_stage",
    ),
    Stage(
        "page-html",
        "The same page as HTML, for the report.",
        of="tables",
        reads=(PAGE,),
        writes=(OUT,),
        module="mesaopt.agreement.html",
        function="html_stage",
    ),
    Stage(
        "captions",
        "Write the claims of every figure, with the paper's value and ours, into its caption.",
        of="tables",
        reads=(AGREEMENT,),
        arguments=(CONFIG, folder("captions")),
        module="mesaopt.agreement.captions",
        function="captions_stage",
    ),
    Stage(
        "compare-curves",
        "Compare our curves with published ones, point by point.",
        of="tables",
        arguments=(CONFIG, folder("tables"), folder("published", "folder")),
        writes=(CURVES.called("out"),),
        module="mesaopt.agreement.curves",
        function="compare_curves_stage",
    ),
    Stage(
        "overlay",
        "Draw the curves of one figure with the published ones as dots.",
        of="figure",
        reads=(TABLE,),
        arguments=(CONFIG, FIGURE, folder("published", "folder"), STYLE),
        writes=(OUT,),
        module="mesaopt.agreement.overlay",
        function="overlay_stage",
    ),
    Stage(
        "browse",
        "Write one page of a scale that needs no network: figures as interactive plots, claims, trainings.",
        of="tables",
        arguments=(
            CONFIG,
            folder("results"),
            SCALE,
            folder("published", help="published tables, whose points are shown as well"),
        ),
        writes=(OUT,),
        module="mesaopt.browse.page",
        function="browse_stage",
    ),
    # --- of folders
    Stage(
        "compare",
        "Compare two folders of results file by file; exit status 1 if they differ.",
        of="folder",
        arguments=(
            folder("first"),
            folder("second"),
            Option(
                "tolerance",
                told={"type": float, "default": 0.0, "help": "allowed fraction of a column's largest value; default: bits"},
            ),
            flag("more", "the second folder may hold more files"),
        ),
        module="mesaopt.store.compare",
        function="compare_stage",
    ),
    Stage(
        "environment",
        "Compare what runs with the declared environment; exit status 1 if it is another.",
        of="folder",
        arguments=(folder("project", default=PROJECT, help="where environment.yml lies"),),
        writes=(OUT,),
        module="mesaopt.store.drift",
        function="environment_stage",
    ),
    Stage(
        "record",
        "Add the tables and weights of a finished paper run to the recorded ones; refuses a changed work tree.",
        of="folder",
        arguments=(
            folder("results"),
            folder("recorded"),
            several("replace", "+", "FIGURE", "figures whose recorded tables are replaced, even where seeds are lost"),
            Option("weights-up-to", told={"type": float, "default": 1.0, "metavar": "MB", "help": "of one seed; default: 1"}),
        ),
        module="mesaopt.recording.record",
        function="record",
    ),
    Stage(
        "release",
        "Pack recorded tables and weights with provenance, licence and citation as an RO-Crate; refuses a changed work tree.",
        of="folder",
        arguments=(folder("recorded"), CONFIG),
        writes=(OUT,),
        module="mesaopt.recording.release",
        function="release_stage",
    ),
    Stage(
        "orphans",
        "SLURM jobs of this folder that outlived their Snakemake; exit status 1 if any are left.",
        of="folder",
        arguments=(
            flag("cancel", "cancel them, and wait until they have ended", exclusive=True),
            flag("wait", "wait until they have finished", exclusive=True),
            folder("folder", default=Path(), help="where Snakemake ran; default: here"),
        ),
        module="mesaopt.process.orphans",
        function="orphans_stage",
    ),
)
