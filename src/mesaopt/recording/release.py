"""Everything that is recorded as one archive that repositories of research data take: an RO-Crate, packed as a ZIP file.

Tables, their provenance, weights, settings, licence and citation; its metadata say of every table which weights, settings and
code it was made from. The same commit gives the same bytes.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.figures.records import read_json
from mesaopt.figures.registry import FIGURES
from mesaopt.recording.weights import Training, behind, trainings
from mesaopt.spec.files import HISTORY, PROVENANCE, RECORD, SPEC, TABLE, WEIGHTS
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.digests import require_intact
from mesaopt.store.disk import sha256
from mesaopt.store.environment import LOCKS, PIP_FILES, PROJECT
from mesaopt.store.git import GitError, changes, git
from mesaopt.store.tables import atomic_path

SPECIFICATION = "https://w3id.org/ro/crate/1.1"
LICENCES = {"MIT": "https://spdx.org/licenses/MIT"}
BESIDE = ("LICENSE", "CITATION.cff", "CHANGELOG.md", "environment.yml", "Containerfile", *PIP_FILES, *LOCKS)
SETTINGS = ("config.yaml", "experiments.yaml", "scales.yaml", "claims.yaml")
#: what files are, by their last suffix
KINDS = {
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".safetensors": "application/octet-stream",
    ".yaml": "application/yaml",
    ".cff": "application/yaml",
    ".yml": "application/yaml",
}
Entity = dict[str, Any]


def release_stage(recorded: Path, out: Path, project: Path = PROJECT) -> None:
    """Write the archive of what is in `recorded` at `out`.

    Raises `InputError` where nothing is recorded, a file is damaged, or the work tree has changes: the archive names a commit.
    """
    commit, when = _commit(project)
    files = _files(recorded, project)
    if not any(name.startswith("tables/") for name in files):
        raise InputError(f"{recorded}/tables holds no recorded figure")
    for path in files.values():
        require_intact(path)
    metadata = {"@context": f"{SPECIFICATION}/context", "@graph": list(_graph(files, recorded, project, commit, when))}
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        texts = {name: path.read_bytes() for name, path in files.items()}
        texts["ro-crate-metadata.json"] = (json.dumps(metadata, indent=1, ensure_ascii=False) + "\n").encode()
        for name in sorted(texts):
            archive.writestr(zipfile.ZipInfo(name, when.timetuple()[:6]), texts[name], zipfile.ZIP_DEFLATED)
    print(f"{out}: {len(files)} files, {out.stat().st_size / 1e6:.1f} MB, of commit {commit[:12]}")


def _commit(project: Path) -> tuple[str, datetime]:
    try:
        commit, when = git(project, "show", "--no-patch", "--format=%H %ct", "HEAD").split()
        found = changes(project, ":/")
    except GitError as error:
        raise InputError(f"a release names a commit; git says: {error}") from None
    if found:
        raise InputError(f"the work tree has changes ({found[0].strip()}, ...): commit them, then release")
    return commit, datetime.fromtimestamp(int(when), UTC)


def _files(recorded: Path, project: Path) -> dict[str, Path]:
    """Files by their name in the archive."""
    wanted = [
        *recorded.glob("*.parquet"),
        *(path for part in ("tables", "records", "weights") for path in (recorded / part).rglob("*")),
    ]
    kept = {str(path.relative_to(recorded)): path for path in wanted if path.is_file() and path.name[0] not in "._"}
    shipped = {name: project / name for name in BESIDE} | {f"config/{name}": project / "config" / name for name in SETTINGS}
    return dict(sorted((kept | {name: path for name, path in shipped.items() if path.is_file()}).items()))


def _graph(files: Mapping[str, Path], recorded: Path, project: Path, commit: str, when: datetime) -> Iterator[Entity]:
    cited = read_yaml(project / "CITATION.cff")
    day, paper = when.date().isoformat(), cited["preferred-citation"]
    licence = LICENCES.get(cited["license"], cited["license"])
    people = [{"@id": f"#author-{i}", "@type": "Organization", "name": one["name"]} for i, one in enumerate(cited["authors"])]
    about = {"@id": "./"}
    yield {"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "conformsTo": {"@id": SPECIFICATION}, "about": about}
    actions = list(_actions(files, recorded))
    yield about | {
        "@type": "Dataset",
        "name": cited["title"],
        "description": f"Recorded tables of figures, trained weights and provenance, of commit {commit}.",
        "version": str(cited["version"]),
        "datePublished": day,
        "license": {"@id": licence},
        "author": _ids(people),
        "publisher": {"@id": people[0]["@id"]},
        "citation": {"@id": paper["url"]},
        "hasPart": _ids({"@id": name} for name in files),
        "mentions": _ids(actions),
    }
    yield {"@id": licence, "@type": "CreativeWork", "name": cited["license"], "description": "Licence of code and results"}
    yield from people
    names = [f"{one['given-names']} {one['family-names']}" for one in paper["authors"]]
    yield {"@id": paper["url"], "@type": "ScholarlyArticle", "name": paper["title"], "author": ", ".join(names)}
    yield {
        "@id": "#mesaopt",
        "@type": "SoftwareApplication",
        "name": "mesaopt",
        "version": f"{cited['version']}, commit {commit}",
    }
    yield from actions
    yield from (_file(name, path) for name, path in files.items())


def _file(name: str, path: Path) -> Entity:
    return {
        "@id": name,
        "@type": "File",
        "name": name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": KINDS.get(path.suffix, "text/plain"),
        "sha256": sha256(path),
    }


def _actions(files: Mapping[str, Path], recorded: Path) -> Iterator[Entity]:
    """How every recorded figure's table was made: from which weights, as far as they are recorded."""
    kept = behind(recorded)
    for figure in FIGURES:
        table, record = (file.place.format(figure=figure) for file in (TABLE, RECORD))
        if table not in files or record not in files:
            continue
        facts = read_json(files[record])
        made = [*_of(kept.get(figure, []), recorded), *(f"config/{name}" for name in SETTINGS)]
        gone = len(list(trainings(facts))) - len(kept.get(figure, []))
        yield {
            "@id": f"#{figure}",
            "@type": "CreateAction",
            "name": f"Values of {figure}",
            "description": f"Commits {', '.join(facts['commits'])}; {facts['training_hours']} hours of training;"
            f" trainings without weights here: {gone}",
            "instrument": {"@id": "#mesaopt"},
            "object": _ids({"@id": name} for name in made if name in files),
            "result": _ids(({"@id": table}, {"@id": record})),
        }


def _of(found: Iterable[Training], recorded: Path) -> Iterator[str]:
    for one in found:
        yield from (str(one.recorded(recorded, file).relative_to(recorded)) for file in (WEIGHTS, SPEC, PROVENANCE, HISTORY))


def _ids(entities: Iterable[Entity]) -> Entity | list[Entity]:
    """One stands by itself, not in a list: the specification asks for that."""
    found = [{"@id": one["@id"]} for one in entities]
    return found[0] if len(found) == 1 else found
