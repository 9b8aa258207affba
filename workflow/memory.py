"""Snakemake's memory of results, kept beside them (src/mesaopt/store/made.py): `rules/made.smk` says why and puts it to use."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake.persistence import NO_PARAMS_CHANGE, RECORD_FORMAT_VERSION, MetadataRecord, ParamsChange, PersistenceBase

from mesaopt.store.made import Made, chain_of, content, made_path, read_made, write_made

RESULTS = ("results/", "figures/")
AS_ASKED = "as asked"


def remember_beside(workflow: Any, root: Path, said: Callable[[Any], tuple[str | None, bool]]) -> None:
    """Let the memory of this workflow be `RecordsBeside`. Snakemake makes it after the rules are read, and has no setting for it.

    `root` is the project's folder; `said` gives what the results of a job say of themselves: what is otherwise than asked or
    None, and whether that was everything.
    """
    if hasattr(workflow, "remembers_beside"):  # another module of the caller's workflow may be this one, too
        return
    workflow.remembers_beside = True
    prepare, build = workflow._prepare_dag, workflow._build_dag

    def prepare_dag(*arguments: Any, **options: Any) -> None:
        prepare(*arguments, **options)
        memory = workflow.persistence
        memory.__class__ = type("Memory", (RecordsBeside, type(memory)), {})
        memory.begin(root, said)

    def build_dag() -> None:
        build()
        if workflow.is_main_process:
            workflow.persistence.say_unknown()

    workflow._prepare_dag, workflow._build_dag = prepare_dag, build_dag


def say(line: str) -> None:
    print(f"mesaopt: {line}", file=sys.stderr, flush=True)


class RecordsBeside(PersistenceBase):
    """Comes before the class of a memory of Snakemake's, whose methods it adds to.

    By output there are records (`kept`), their `chains`, those that tell of something else (`strange`); by file `digests`; by
    job the chain that is `asked`, judgements (`judged`), what Snakemake has just written (`fresh`, by output) and, where nothing
    says what a result was made from, which (`unknown`).
    """

    def begin(self, root: Path, said: Callable[[Any], tuple[str | None, bool]]) -> None:
        self.prefix, self.said = f"{root}/", said
        self.fresh: dict[str, MetadataRecord] = {}
        self.unknown: dict[Any, str] = {}
        self.asked: dict[Any, str] = {}
        self._forget()

    def _forget(self) -> None:
        self.kept: dict[str, MetadataRecord | None] = {}
        self.chains: dict[str, str] = {}
        self.strange: set[str] = set()
        self.digests: dict[str, str | None] = {}
        self.judged: dict[Any, str] = {}

    def _clear_cache(self) -> None:
        super()._clear_cache()
        self._forget()

    def _digest(self, path: str) -> str | None:
        if path not in self.digests:
            self.digests[path] = content(Path(path))
        return self.digests[path]

    def _named(self, text: str) -> str:
        """Names of what ships with the project, as in a clone's own folder: the same everywhere."""
        return text.replace(self.prefix, "")

    # --- reading
    def _read_record(self, key: str) -> MetadataRecord | None:
        if not key.startswith(RESULTS):
            return super()._read_record(key)
        if key not in self.kept:
            made = read_made(Path(key))
            self.kept[key] = super()._read_record(key) if made is None else self._understood(key, made)
        return self.kept[key]

    def _understood(self, key: str, made: Made) -> MetadataRecord | None:
        """The record as Snakemake knows them; None if it tells of another result than the one that lies there."""
        if made.result != key or self._digest(key) not in (made.sha256, None):
            self.strange.add(key)
            return None
        self.chains[key] = made.chain
        checksums = {name: f"sha256:{digest}" for name, digest in made.inputs.items() if digest}
        return MetadataRecord(
            rule=made.rule,
            code=made.command,
            params=made.params,
            input=sorted(made.inputs),
            input_checksums=checksums | {self.prefix + name: digest for name, digest in checksums.items()},
            starttime=made.started,
            endtime=made.ended,
            job_hash=made.job,
            incomplete=False,
            record_format_version=RECORD_FORMAT_VERSION,
        )

    # --- what is compared
    def _input(self, job: Any) -> list[str]:
        return sorted(map(self._named, super()._input(job)))

    def _params(self, job: Any) -> list[Any]:
        return sorted(map(self._named, super()._params(job)))

    def _chain(self, job: Any) -> str:
        """Of the job as it is asked for now."""
        if job not in self.asked:
            behind = [self._chain(other) for other in self.dag.dependencies[job]]
            self.asked[job] = chain_of(self._code(job.rule), self._params(job), self._input(job), behind)
        return self.asked[job]

    def _input_changed(self, job: Any, file: Any = None) -> bool:
        return not self._judgement(job) and (super()._input_changed(job, file=file) or self._contents_changed(job, file))

    def _contents_changed(self, job: Any, file: Any) -> bool:
        """Whether an input is not what it was, dates aside; if one is gone, whether anything behind would be made otherwise."""
        record, key = self.metadata(file), self._get_key(file)
        if record is None or not key.startswith(RESULTS):
            return False
        known = record.input_checksums or {}
        now = {str(name): f"sha256:{digest}" for name in job.input if (digest := self._digest(str(name)))}
        if any(known.get(name, digest) != digest for name, digest in now.items()):
            return True
        gone = any(name not in now and not Path(name).exists() for name in map(str, job.input))
        return gone and key in self.chains and self.chains[key] != self._chain(job)

    # --- results that have no record, or that of something else
    def _judgement(self, job: Any) -> str:
        """`AS_ASKED`, or what is otherwise; "" where records, or Snakemake's own memory, may decide."""
        if job not in self.judged:
            self.judged[job] = self._judge(job)
        return self.judged[job]

    def _judge(self, job: Any) -> str:
        there = [key for key in map(str, job.output) if key.startswith(RESULTS) and self._digest(key)]
        without = [key for key in there if self._read_record(key) is None or key not in self.chains]
        if not without:
            return ""
        otherwise, everything = self.said(job)
        if otherwise or everything:
            return otherwise or AS_ASKED
        if strange := self.strange.intersection(without):
            return f"{min(strange)} is not what its record tells of"
        if any(self._read_record(key) is None for key in without):
            self.unknown[job] = without[0]
        return ""

    def has_metadata(self, job: Any) -> bool:
        return bool(self._judgement(job)) or super().has_metadata(job)

    def has_outdated_metadata(self, job: Any) -> bool:
        return not self._judgement(job) and super().has_outdated_metadata(job)

    def params_changed(self, job: Any, file: Any = None) -> Any:
        judgement = self._judgement(job)
        if judgement == AS_ASKED:
            return NO_PARAMS_CHANGE
        return ParamsChange({judgement}, files=set(job.output)) if judgement else super().params_changed(job, file=file)

    def _code_changed(self, job: Any, file: Any = None) -> bool:
        return not self._judgement(job) and super()._code_changed(job, file=file)

    def say_unknown(self) -> None:
        """In one line, of results that are used as they are."""
        if taken := [path for job, path in self.unknown.items() if not self.dag.needrun(job)]:
            more = f" (nor {len(taken) - 1} other results)" if taken[1:] else ""
            say(f"nothing says what {taken[0]} was made from{more}; used as it is, delete it to have it made again")

    # --- writing, which only the Snakemake does that plans
    def _write_record(self, key: str, record: MetadataRecord) -> None:
        super()._write_record(key, record)
        self.fresh[key] = record

    def _delete_record(self, key: str) -> bool:
        beside = made_path(Path(key))
        if there := key.startswith(RESULTS) and beside.exists():
            beside.unlink()
        return super()._delete_record(key) or there

    async def finished(self, job: Any) -> None:
        await super().finished(job)
        for key in map(self._get_key, job.output):
            record = self.fresh.pop(key, None)
            if record and key.startswith(RESULTS):
                self._keep(job, key, record)
        self._clear_cache()

    def _keep(self, job: Any, key: str, record: MetadataRecord) -> None:
        inputs = {self._named(str(name)): self._digest(str(name)) for name in job.input}
        made = (record.rule, record.code, record.params, inputs, self._chain(job))
        try:
            write_made(Made(key, content(Path(key)), *made, record.starttime, record.endtime, record.job_hash))
        except OSError as error:
            say(f"{made_path(Path(key))} cannot be written ({error.strerror}): nothing will say what {key} was made from")
