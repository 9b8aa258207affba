"""Compiling the native kernel: where there is a compiler and where not, once for all jobs, for every instruction set."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from native_models import lsa, run

from mesaopt.backends.native import build, kept
from mesaopt.backends.native.backend import available
from mesaopt.store import disk

pytestmark = pytest.mark.usefixtures("kernels")


def test_available_here():
    assert available(run(lsa())) is None


@pytest.mark.parametrize(
    ("cxx", "reason"), [("no-such-compiler", "not found"), ("no-such -m64", "not found"), ("false", "cannot compile")]
)
def test_without_a_working_compiler_there_is_a_reason(monkeypatch, tmp_path, cxx, reason):
    monkeypatch.setenv("CXX", cxx)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert reason in (available(run(lsa(d_head=3))) or "")
    assert not list(tmp_path.rglob("*.so"))
    with pytest.raises(build.BuildError, match=reason):
        build.require_compiler()


@pytest.mark.parametrize("words", ["{launcher} {compiler}", "{compiler} -DMORE", "'{launcher}'  {compiler}", "{spaced}"])
def test_a_compiler_may_be_named_with_arguments(monkeypatch, tmp_path, capsys, words):
    """As in `CXX="ccache g++"` and `CXX="g++ -m64"`."""
    (tmp_path / "with space").mkdir()
    names = {"launcher": tmp_path / "launcher", "spaced": tmp_path / "with space" / "compiler"}
    for path, content in zip(names.values(), ('exec "$@"', f'exec {build.compiler()[0]} "$@"'), strict=True):
        path.write_text(f"#!/bin/sh\n{content}\n")
        path.chmod(0o755)
    monkeypatch.setenv("CXX", words.format(compiler=build.compiler()[0], **names))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.require_compiler()
    build.library.__wrapped__("sequences.cpp", ("-DN=1",))
    assert len(list(tmp_path.rglob("*.so"))) == 1 and capsys.readouterr().err == ""


def test_quotes_that_do_not_close_are_a_reason(monkeypatch):
    monkeypatch.setenv("CXX", "'g++")
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler for the native kernel \(CXX='g\+\+: No closing quotation\)"):
        build.require_compiler()


def test_unwritable_cache_is_a_reason(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "cannot build or load" in (available(run(lsa(d_head=3))) or "")


def test_jobs_that_build_at_once_build_once(tmp_path):
    log, fake = tmp_path / "log", tmp_path / "compiler"
    real = shlex.join(build.compiler())
    fake.write_text(f'#!/bin/sh\ncase "$*" in *--version*) echo 1;; *) echo x >> {log}; sleep 0.5; exec {real} "$@";; esac\n')
    fake.chmod(0o755)
    code = (
        "from mesaopt.backends.native.build import Shape, kernel_library; kernel_library(Shape(1, 1, 1, 1, False)).mesaopt_loss"
    )
    source = str(Path(build.__file__).parents[3])
    environment = {"CXX": str(fake), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": source, "PATH": "/usr/bin:/bin"}
    jobs = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert log.read_text() == "x\n"
    assert len(list((tmp_path / "cache").rglob("*.so"))) == 1


#: every library of a machine: its file, and what it is compiled for
LIBRARIES = {"kernel.cpp": build.Shape(1, 1, 1, 1, raw=False).definitions(), "sequences.cpp": ("-DN=1",)}


def halve(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("source", LIBRARIES)
def test_a_damaged_library_is_named_and_built_anew(monkeypatch, tmp_path, capsys, source):
    """Were it loaded, half of one would end the process with SIGBUS."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load = build.library.__wrapped__  # what another process would do
    load(source, LIBRARIES[source])
    (path,) = tmp_path.rglob("*.so")
    whole = path.read_bytes()
    for damage in (lambda content: b"", halve, flip_a_bit):
        path.unlink()  # this process has it loaded
        path.write_bytes(damage(whole))
        load(source, LIBRARIES[source])
        assert capsys.readouterr().err == f"mesaopt: {path} is damaged, not what was compiled: built anew\n"
        assert path.read_bytes() == whole
    load(source, LIBRARIES[source])
    assert capsys.readouterr().err == ""


def test_a_library_without_its_digest_was_never_finished(monkeypatch, tmp_path, capsys):
    """The power failed between the two, or an older version kept it: nobody knows whether it is whole."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load, (source, definitions) = build.library.__wrapped__, next(iter(LIBRARIES.items()))
    load(source, definitions)
    (path,) = tmp_path.rglob("*.so")
    kept.digest_path(path).unlink()
    path.unlink()
    path.write_bytes(b"half a library")
    load(source, definitions)
    assert kept.is_kept(path) and capsys.readouterr().err == ""


def test_every_step_of_keeping_reaches_the_disk_before_the_next(monkeypatch, tmp_path):
    """The library, its name, its digest, the digest's name."""
    steps = []
    sync, replace = disk.sync, os.replace
    for module in (kept, disk):
        monkeypatch.setattr(module, "sync", lambda path: (steps.append(("sync", path)), sync(path)))
    monkeypatch.setattr(kept.os, "replace", lambda source, target: (steps.append(("name", target)), replace(source, target)))
    (tmp_path / "new").mkdir()
    new, path = tmp_path / "new" / "a.so", tmp_path / "a.so"
    new.write_bytes(b"code")
    kept.keep(new, path)
    digest, new_digest = kept.digest_path(path), new.with_name("a.so.sha256")
    library_steps = [("sync", new), ("name", path), ("sync", tmp_path)]
    assert steps == [*library_steps, ("sync", new_digest), ("name", digest), ("sync", tmp_path)]


def test_every_header_is_named():
    """The key and the fingerprint of the code follow those that are."""
    sources = [*build.FOLDER.glob("*.cpp"), *build.FOLDER.glob("*.h")]
    included = {name for source in sources for name in re.findall(r'^#include "(.+)"', source.read_text(), re.MULTILINE)}
    included.remove("kernel.cpp")  # by frozen.cpp, whose library's name has the kernel's digest
    assert included == set(build.HEADERS) == {path.name for path in build.FOLDER.glob("*.h")}


def test_key_follows_source_headers_flags_and_compiler(monkeypatch, tmp_path):
    source = tmp_path / "kernel.cpp"
    source.write_text("one")
    command = [*build.compiler(), "-O3", str(source)]
    keys = [build._key(command), build._key([*build.compiler(), "-O2", str(source)])]
    monkeypatch.setattr(build, "_version", lambda words: "another")
    keys.append(build._key(command))
    source.write_text("another")
    keys.append(build._key(command))
    shutil.copytree(build.FOLDER, tmp_path / "native")
    monkeypatch.setattr(build, "FOLDER", tmp_path / "native")
    (build.FOLDER / "mlp.h").write_text("another")
    keys.append(build._key(command))
    assert len(set(keys)) == 5


#: a compiler for another processor: Debian's package g++-aarch64-linux-gnu, which .ci/run installs
ABROAD = "aarch64-linux-gnu-g++"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the targets are named as on x86-64")
@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        ("kernel.cpp", build.Shape(7, 3, 8, 2, raw=True).definitions()),
        ("kernel.cpp", build.Shape(7, 8, 8, 2, raw=False, merged=True).definitions()),
        ("kernel.cpp", build.Shape(7, 3, 8, 2, raw=False, d_mlp=67, normalise=0b101).definitions()),
        ("frozen.cpp", build.Shape(7, 3, 8, 2, raw=True).definitions()),
        ("frozen.cpp", build.Shape(7, 8, 8, 2, raw=False, merged=True).definitions()),
        ("sequences.cpp", ("-DN=3",)),
    ],
    ids=["heads", "merged", "mlp", "frozen", "frozen and merged", "sequences"],
)
@pytest.mark.parametrize("target", ["-march=x86-64", "-march=x86-64-v3", "-march=x86-64-v4", ABROAD])
def test_compiles_for_every_instruction_set(target, source, sizes, tmp_path):
    """SSE, AVX2, AVX-512 and NEON: more than this machine can run."""
    if target == ABROAD and not (shutil.which(ABROAD) or os.environ.get("CI")):
        pytest.skip(f"compiling for another processor needs {ABROAD}")
    compiler = [ABROAD] if target == ABROAD else [*build.compiler(), target]
    flags = [flag for flag in build.FLAGS if flag not in ("-O3", "-shared")]
    command = [*compiler, *flags, "-O1", "-Werror", *sizes, "-c", str(build.FOLDER / source)]
    subprocess.run([*command, "-o", str(tmp_path / "kernel.o")], check=True)
