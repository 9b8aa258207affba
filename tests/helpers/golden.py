"""The golden set: what all figures' smoke results were before the redesign, file by file, for later ones to be held against;
those that rest on scalars of Proposition 2 are since learned by compiled code, equal to the earlier ones to 1e-5. Taken anew when
sums of the kernel came to be rounded otherwise (weights equal to 6e-6 of the largest), losses got columns, contracting systems
more sequences, and probes both forms of the preconditioned input; and, on another processor, when figure 13 came to need
every seed.

`python tests/helpers/golden.py RESULTS BACKEND` writes it anew, from a folder results/smoke that the backend has made.
"""

import hashlib
import json
import platform
import sys
from pathlib import Path

from mesaopt.store.environment import versions
from mesaopt.store.provenance import cpu_model
from mesaopt.store.tables import read_parquet

GOLDEN = Path(__file__).parents[1] / "golden"


def content(path: Path) -> str:
    """SHA-256 of the values of a table, whatever their encoding, or of the bytes of weights."""
    if path.suffix != ".parquet":
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    frame, digest = read_parquet(path), hashlib.sha256()
    for name in frame.columns:
        values = frame[name]
        numbers = values.dtype.kind in "iuf"
        digest.update(f"{name} {values.dtype if numbers else 'text'}\n".encode())
        digest.update(values.to_numpy().tobytes() if numbers else "\n".join(map(str, values)).encode())
    return digest.hexdigest()[:16]


def contents(results: Path) -> dict[str, str]:
    files = sorted(path for suffix in ("parquet", "safetensors") for path in results.rglob(f"*.{suffix}"))
    return {str(path.relative_to(results)): content(path) for path in files}


def machine() -> dict[str, object]:
    """What bits depend on."""
    names = ("numpy", "python", "torch")
    return {"cpu": cpu_model(), "machine": platform.machine(), "versions": {name: versions()[name] for name in names}}


if __name__ == "__main__":
    folder, backend = Path(sys.argv[1]), sys.argv[2]
    GOLDEN.mkdir(exist_ok=True)
    found = {"machine": machine(), "files": contents(folder)}
    (GOLDEN / f"smoke-{backend}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
