"""What tests may do to the machine of whoever runs them: nothing, unless they are asked to (`make test SYSTEM=1`; CI asks).

Asked, Debian packages are installed, and stay; what an installation starts or configures does not.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

HOW = "make test SYSTEM=1 (as root on a Debian-like Linux) runs it"
#: while this file says so, installations start no services (Debian Policy, invoke-rc.d)
POLICY = Path("/usr/sbin/policy-rc.d")
#: a key that Debian's munge makes when it is installed
KEY = Path("/etc/munge/munge.key")


def asked() -> bool:
    return os.environ.get("SYSTEM") == "1"


def possible() -> bool:
    """Whether packages can be installed, devices made and folders mounted here."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def skip_unasked(items: list[pytest.Item]) -> None:
    """Tests marked `system` are skipped by name unless they were asked for; asked for where they cannot run, they fail."""
    if asked():
        return
    for item in items:
        if mark := item.get_closest_marker("system"):
            item.add_marker(pytest.mark.skip(reason=f"NOT TESTED: {item.name}: {mark.args[0]}; {HOW}"))


def packages(*tools: str, names: tuple[str, ...]) -> None:
    """The Debian packages `names`, unless all of their `tools` are here. Fails the test where they cannot be had."""
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
    if all(shutil.which(tool, path=path) for tool in tools):
        return
    if not possible():
        pytest.fail(f"{', '.join(names)} cannot be installed here: that takes root on a Debian-like Linux")
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "-q", "-y"]
    with without_services():
        for arguments in (["update"], ["install", "--no-install-recommends", *names]):
            done = subprocess.run(
                [*apt, *arguments],
                capture_output=True,
                text=True,
                timeout=400,
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            )
            assert done.returncode == 0, done.stderr


@contextmanager
def without_services() -> Iterator[None]:
    """Nothing that is installed in this block is started, and the key that munge's installation makes is taken back."""
    key = KEY.exists()
    policy = None if POLICY.exists() else POLICY
    if policy:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if policy:
            policy.unlink()
        if not key:
            KEY.unlink(missing_ok=True)


def inventory(*folders: str) -> dict[str, tuple[str, int, int, bytes | str]]:
    """Every file below `folders`: kind and mode, owner, group, and content (of links: where they lead)."""
    found: dict[str, tuple[str, int, int, bytes | str]] = {}
    for path in (path for folder in folders for path in [Path(folder), *Path(folder).rglob("*")]):
        with suppress(FileNotFoundError):
            facts = path.lstat()
            content: bytes | str = b""
            if stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(facts.st_mode):
                content = path.read_bytes()
            found[str(path)] = (stat.filemode(facts.st_mode), facts.st_uid, facts.st_gid, content)
    return found
