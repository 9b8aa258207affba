# Whether a result is what is asked: by the record beside it (src/mesaopt/store/made.py), wherever it was made and whatever Snakemake
# remembers of this folder.
#
# Snakemake decides by its own memory of every output (.snakemake/metadata): parameters, command, names of the inputs and, of
# those that are younger, their content. `memory.py` gives it the records for that memory, so that plans, dry runs, reasons and
# clusters stay its own; nothing is touched, and nothing written before a job has ended. Beyond what Snakemake compares, inputs
# are compared by content whatever their dates, and where one is missing all that is behind it is compared by settings and code.

from importlib.util import module_from_spec, spec_from_file_location
from shlex import split

from snakemake.utils import format as format_command

from mesaopt.spec import told


def said_of(job):
    """What results of a job say of themselves in the JSON beside them: what is otherwise or None, and whether that was everything."""
    given = {name: getattr(job, name) for name in ("input", "output", "params", "wildcards", "resources", "threads", "log")}
    words = split(format_command(job.rule.shellcmd or "", **given))
    if words[:4] != ["python", "-P", "-m", "mesaopt"]:
        return None, False
    from mesaopt.__main__ import calls
    from mesaopt.stages.train import seed_folders

    end = next((i for i, word in enumerate(words) if word in (">", "2>&1")), len(words))
    for entry, values in calls(words[4:end]):
        if entry.name == "train":
            found = [
                told.trained_otherwise(folder, values["spec"], seed, job.params.code)
                for seed, folder in seed_folders(values["weights"]).items()
            ]
            return next(filter(None, found), None), None not in found
        if entry.name == "collect":
            return told.collected_otherwise(values["provenance"], plan(job.wildcards.scale).any_run, values["seeds"]), False
        if other := told.made_otherwise(entry, values):
            return other, False
    return None, False


_spec = spec_from_file_location("mesaopt_memory", ROOT / "workflow/memory.py")
memory = module_from_spec(_spec)
_spec.loader.exec_module(memory)
memory.remember_beside(workflow, ROOT, said_of)
