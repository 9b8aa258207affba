# Said once, when jobs are about to start.

from mesaopt.backends.native.build import BuildError, require_compiler
from mesaopt.process.home import require_cache
from mesaopt.process.orphans import queued_jobs


def say_slow_trainings():
    """On the console, once: what jobs would say in their logs alone costs hours."""
    takes_compiled_code = (job.resources.get("backend") == "auto" for job in workflow.dag.needrun_jobs())
    if workflow.is_main_process and not workflow.non_local_exec and any(takes_compiled_code):
        try:
            require_compiler()
            require_cache()
        except (BuildError, InputError) as error:
            print(f"mesaopt: trainings take several times as long as with compiled code: {error}", file=sys.stderr, flush=True)


onstart:
    say_slow_trainings()
    if workflow.non_local_exec and shutil.which("squeue"):
        if jobs := [job.number for job in queued_jobs(Path())]:
            stop(
                f"jobs of an earlier Snakemake in this folder are still in SLURM's queue: {', '.join(jobs)};"
                " first wait for them or cancel them: python -m mesaopt orphans --wait (or --cancel)"
            )
