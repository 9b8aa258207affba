"""The image of Containerfile, built by Debian's buildah on a base that is made here, and commands that run in it.

No registry of images is asked: the base is a bootstrapped Debian. apt and pip find packages as they do on this machine.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from system import packages
from workflow_folder import ROOT

#: the Debian whose Python is that of requirements-cpu.lock
SUITE = "bookworm"
#: what of pip's settings says where packages are
PLACES = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "cert")


class Image:
    """An image in a store of its own, all of it below `state`, and a container made of it."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def buildah(self, *words: str, timeout: float = 600) -> str:
        """What it prints; the storage driver is the one that works anywhere."""
        store = ("--root", f"{self.state}/store", "--runroot", f"{self.state}/run", "--storage-driver", "vfs")
        return _said("buildah", *store, *words, timeout=timeout)

    def build(self, lock: str) -> None:
        base, settings = self.state / "base.tar", self.state / "pip.conf"
        _bootstrap(base)
        text, folders = pip_settings()
        settings.write_text(text)
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", container, str(base), "/")
        self.buildah("commit", "--rm", container, "base")
        base.unlink()
        mounts = [f"--volume={folder}:{folder}:ro" for folder in folders]
        arguments = ("--build-arg", "BASE=localhost/base", "--build-arg", f"LOCK={lock}")
        options = ("--isolation", "chroot", f"--volume={settings}:/etc/pip.conf:ro", *mounts)
        self.buildah("build", *options, *arguments, "--tag", "mesaopt", str(ROOT), timeout=2400)
        self.container = self.buildah("from", "localhost/mesaopt").strip()

    def save(self) -> Path:
        """The image as a file that apptainer makes its own of."""
        path = self.state / "mesaopt.tar"
        self.buildah("push", "localhost/mesaopt", f"docker-archive:{path}")
        return path

    def run(self, folder: Path, *words: str, timeout: float = 900) -> str:
        """Output of a command in the container, which sees `folder` and begins there."""
        options = ("--isolation", "chroot", f"--volume={folder}:{folder}", "--workingdir", str(folder))
        return self.buildah("run", *options, self.container, "--", *words, timeout=timeout)


@contextmanager
def built(state: Path, lock: str) -> Iterator[Image]:
    """The image until the end of the block; gigabytes, of which nothing stays."""
    packages("buildah", "mmdebstrap", names=("buildah", "mmdebstrap", "debian-archive-keyring"))
    image = Image(state)
    try:
        image.build(lock)
        yield image
    finally:
        assert str(state) not in Path("/proc/self/mounts").read_text(), "folders of this machine are still mounted there"
        shutil.rmtree(state)


def _said(*words: str, timeout: float) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def _bootstrap(archive: Path) -> None:
    """A small Debian with Python, as a tar archive; whatever this machine says of the way to packages holds for it, too."""
    said = _said("apt-config", "dump", timeout=60)
    options = archive.with_name("apt.conf")
    options.write_text("\n".join(re.findall(r"^Acquire::(?:Check-|https?::).*$", said, flags=re.MULTILINE)))
    made = ("--mode=root", "--variant=minbase", "--include=python3-venv", "--dpkgopt=force-unsafe-io", f"--aptopt={options}")
    _said("mmdebstrap", *made, SUITE, str(archive), timeout=900)


def pip_settings() -> tuple[str, list[Path]]:
    """Where pip finds packages here, as a pip.conf, and the folders and files of this machine that it names.

    The pages of an index that is a folder (`file:`) name files beside that folder.
    """
    said = _said(sys.executable, "-m", "pip", "config", "list", timeout=60)
    found = {name: value for name, value in re.findall(r"^[\w:-]+\.([\w-]+)='(.*)'$", said, flags=re.MULTILINE) if name in PLACES}
    words = [word for value in found.values() for word in value.replace("\\n", " ").split()]
    indexes = [Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")]
    paths = [path for path in (*map(Path, words), *indexes) if path.is_absolute() and path.exists()]
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in found.items())]) + "\n", paths
