# How long what is planned is expected to take: added to Snakemake's table of jobs, which `snakemake -n` prints.

import logging
from collections import Counter

from snakemake.logging import logger

from mesaopt.spec.algorithm import Theory
from mesaopt.spec.cost import FITTED, Rates, expectation
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.run import Run


def rates():
    """Read where they are needed: Snakemake starts for many things that train nothing, in every job of a cluster for one."""
    try:
        return Rates.read(ROOT)
    except InputError as error:
        stop(error)


def expected(jobs):
    """Lines about trainings, fits and learning; none where nothing of the kind is planned."""
    trainings, learned, fitted = Counter(), [], []
    for job in jobs:
        command = (job.rule.shellcmd or "").split()[4:5]
        if command == ["train"]:
            weights = job.output.weights
            trainings[Run.from_json(job.params.spec)] += 1 if isinstance(weights, str) else len(weights)
        elif command == ["train-language"]:
            trainings[LanguageRun.from_json(job.params.spec)] += 1
        elif command == ["learn"]:
            learned.append(Theory.from_json(job.params.spec))
        elif job.rule.name in FITTED:
            scale, run = job.wildcards.scale, job.wildcards.run
            fitted.append((plan(scale).run(run), analysis_settings(job.rule.name, scale, run)))
    cores = workflow.cores or os.cpu_count() or 1
    return expectation(rates(), trainings, learned, cores, fitted) if trainings or learned or fitted else []


class Expected(logging.Filter):
    """Adds what is expected to the message with the numbers of jobs."""

    def filter(self, record):
        if str(getattr(record, "event", None)) == "run_info" and workflow.exec_mode.name == "DEFAULT":
            if lines := expected(workflow.dag.needrun_jobs()):
                record.msg = "\n".join(
                    [record.msg.rstrip("\n"), "", "expected (config/rates.yaml):", *(f"  {line}" for line in lines), ""]
                )
        return True


if workflow.modifier.is_main_snakefile():
    logger.addFilter(Expected())
