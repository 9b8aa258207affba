"""Interrupted trainings go on where they were: checkpoints, and the lock on a training.

A checkpoint file is three parts: a line with the SHA-256 of the rest, a line of JSON (identity and state), and tensors in the
safetensors format. It replaces its predecessor atomically, so a process killed while writing leaves the older one.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from mesaopt.errors import InputError
from mesaopt.store.tables import atomic_path

_POLL_SECONDS = 0.1
#: something else than others that come and go is in the way of a folder that cannot be made this often
_MANY = 100


def save_checkpoint(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint that belongs to `identity`; `state` is anything JSON can hold (floats come back bit for bit).

    Raises `InputError` in one line when the disk refuses.
    """
    header = json.dumps({"identity": identity, "state": state}).encode() + b"\n"
    payload = safetensors.torch.save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(header)
    digest.update(payload)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.writelines((digest.hexdigest().encode() + b"\n", header, payload))


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """State and tensors (on the CPU) of the checkpoint at `path`, or None when there is none to use.

    One that is damaged or belongs to something else is removed, with one line on standard error.
    """
    try:
        digest, _, rest = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    header, _, payload = rest.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        _discard(path, "it is damaged")
        return None
    content = json.loads(header)
    # through JSON and back, so that a tuple equals the list it was written as
    expected = json.loads(json.dumps(identity))
    different = [key for key in expected | content["identity"] if expected.get(key) != content["identity"].get(key)]
    if different:
        _discard(path, f"it belongs to another {', '.join(different)}")
        return None
    return content["state"], safetensors.torch.load(payload)


def _discard(path: Path, why: str) -> None:
    print(f"mesaopt: checkpoint {path} is discarded: {why}; training starts anew", file=sys.stderr, flush=True)
    path.unlink()


@contextlib.contextmanager
def exclusive(folder: Path, what: str) -> Iterator[bool]:
    """Hold the only lock on `folder` (made if missing), so that no two processes train the same thing.

    While another process holds it (a training that outlived the Snakemake that started it, say), wait, with one line that names
    `what` and that process; the value is whether there was anything to wait for. The lock ends with its process, however that
    ends. The folder goes when it is empty afterwards. Raises `InputError` when the disk refuses.
    """
    path = folder / "lock"
    handle, waited = _acquire(path, what)
    try:
        # what a killed writer left half-written; nobody else can be writing now
        for leftover in folder.glob(".*"):
            leftover.unlink(missing_ok=True)
        yield waited
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()


def _acquire(path: Path, what: str) -> tuple[int, bool]:
    waited, vanished = False, 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            # holders before us may remove the folder between these steps
            if isinstance(error, FileNotFoundError | FileExistsError) and (vanished := vanished + 1) < _MANY:
                time.sleep(_POLL_SECONDS / 10)
                continue
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the holder before us may have removed the file between our open and our lock: then the lock holds nobody off
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {os.uname().nodename}".encode())
                return handle, waited
        except BlockingIOError:
            if not waited:
                holder = os.read(handle, 200).decode(errors="replace") or "another process"
                print(f"mesaopt: {what} is being trained by {holder}: waiting for it", file=sys.stderr, flush=True)
            waited = True
        except OSError as error:
            path.unlink(missing_ok=True)
            os.close(handle)
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None
        os.close(handle)
        time.sleep(_POLL_SECONDS)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
