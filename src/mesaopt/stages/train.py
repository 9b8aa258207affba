"""The stage `train`: one seed per single-threaded process on a CPU, all seeds stacked in one process on a GPU.

Torch is imported by the processes that train, not by the one that waits for them.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.process.device import choose_device
from mesaopt.process.garbage import search_rarely
from mesaopt.process.idle import threads_of
from mesaopt.process.share import Share
from mesaopt.process.stopping import StopRequest
from mesaopt.process.threads import one_thread
from mesaopt.spec.run import Run

#: read at the start of a process: freed memory is kept, or every step would page it in anew
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
_PR_SET_PDEATHSIG = 1
#: what most often lies behind a signal that ended a process of a seed
_SIGNALS = {"SIGKILL": " (out of memory?)", "SIGBUS": " (a full disk, or a file that changed while it was read?)"}
_POLL_SECONDS = 0.05


def train_stage(
    spec: Run,
    weights: Sequence[Path],
    checkpoints: Path,
    *,
    threads: int = 1,
    device: str = "auto",
    backend: str = "auto",
    checkpoint_every: float = 20.0,
) -> None:
    """Train the run `spec` with the seeds of the paths `weights` (.../seed-N/weights.safetensors).

    At most `threads` processes at a time (a GPU needs one), the last of which may use the threads of those that have ended, and a
    lone job all cores of its workflow; a checkpoint every so many seconds. Raises `InputError` in one line, also where backend
    cuda is asked for and the device is a CPU, or `SystemExit` where a process of the pack has said why it failed.
    """
    folders = seed_folders(weights)
    if threads < 1 or checkpoint_every < 0:
        raise InputError("--threads must be at least 1 and --checkpoint-every not negative")
    options = {"checkpoints": str(checkpoints), "checkpoint_every": checkpoint_every, "backend": backend}
    options |= {"device": choose_device(device), "progress": "auto"}
    if backend == "cuda" and options["device"] != "cuda":  # who names it wants this code or none, not a training of days
        raise InputError(f"{spec.name}: backend cuda computes on a GPU, --device {device} is a CPU here; choose backend auto")
    if options["device"] == "cuda":
        _train_here(spec, folders, options)
    else:
        _train_processes(spec, folders, options, threads)


def seed_folders(weights: Sequence[Path]) -> dict[int, Path]:
    """Folder by seed, from paths that end in seed-N/weights.safetensors; raises `InputError` for any other."""
    folders: dict[int, Path] = {}
    for path in weights:
        prefix, _, number = path.parent.name.partition("-")
        if path.name != "weights.safetensors" or prefix != "seed" or not number.isdecimal():
            raise InputError(f"--weights {path}: must end in seed-N/weights.safetensors")
        if int(number) in folders:
            raise InputError(f"--weights {path}: seed {number} is given twice")
        folders[int(number)] = path.parent
    return folders


def _train_here(run: Run, folders: Mapping[int, Path], options: Mapping[str, Any]) -> None:
    import torch

    from mesaopt.training.loop import Options, train

    if options["device"] == "cuda" or run.training.generator != "pcg64":
        from mesaopt.training.extended import train
    torch.set_num_threads(1)
    changed: dict[str, Any] = {"checkpoints": Path(options["checkpoints"])}
    if "threads" in options:
        changed["threads"] = Share(options["threads"]).threads
    train(run, folders, Options(**(dict(options) | changed)))


def _train_processes(run: Run, folders: Mapping[int, Path], options: dict[str, Any], threads: int) -> None:
    """Every seed in a process of its own, at most `threads` at a time, which share these and the cores that nobody uses.

    When one fails the others stop with a checkpoint: their job has failed, and started again it goes on where they were. For the
    same reason a finished seed keeps its checkpoint until the whole pack has finished.
    """
    waiting = list(folders)
    running: dict[int, subprocess.Popen[bytes]] = {}
    shares, usable = {seed: Share() for seed in folders}, threads_of(threads)
    options["keep_checkpoint"] = len(folders) > 1
    with StopRequest() as stop:
        try:
            while waiting or running:
                while waiting and len(running) < threads:
                    seed = waiting.pop(0)
                    running[seed] = _start(run, {seed: folders[seed]}, options, shares[seed], draws=not running)
                for seed in running:
                    shares[seed].give(usable() // len(running))
                time.sleep(_POLL_SECONDS)
                if stop.signal is not None:
                    stop.leave()
                for seed in [seed for seed, process in running.items() if process.poll() is not None]:
                    _require_success(run, seed, running.pop(seed).returncode)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
            for share in shares.values():
                share.close()
    for seed in folders if options["keep_checkpoint"] else ():
        _forget_checkpoint(Path(options["checkpoints"]) / run.name / f"seed-{seed}")


def _start(
    run: Run, folders: Mapping[int, Path], options: Mapping[str, Any], share: Share, draws: bool
) -> subprocess.Popen[bytes]:
    """Start the process of one seed; on a terminal only one of those that run at a time `draws` a bar."""
    bar = "auto" if draws or not sys.stderr.isatty() else "none"
    content = {
        "spec": run.to_dict(),
        "folders": {seed: str(folder) for seed, folder in folders.items()},
        "options": {**options, "progress": bar, "threads": share.descriptor},
    }
    sources = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [sources, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **KEEP_MEMORY, "PYTHONPATH": path}
    one_thread(environment)
    command = [sys.executable, "-P", "-m", "mesaopt.stages.train", json.dumps(content)]
    descriptors = (share.descriptor,)
    return subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent(), pass_fds=descriptors)


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does first, so that `kill -9` of this process leaves no trainer behind (on Linux)."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return prepare


def _require_success(run: Run, seed: int, status: int) -> None:
    if status < 0:
        name = signal.Signals(-status).name
        guess = _SIGNALS.get(name, "")
        raise InputError(f"{run.name} seed {seed}: its process was ended by {name}{guess}; run again to go on")
    if status > 0:
        raise SystemExit(status)


def _forget_checkpoint(home: Path) -> None:
    (home / "checkpoint").unlink(missing_ok=True)
    for folder in (home, home.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def main(text: str) -> int:
    """Process of one seed: train as the JSON `text` says; returns the exit status."""
    content = json.loads(text)
    try:
        folders = {int(seed): Path(folder) for seed, folder in content["folders"].items()}
        _train_here(Run.from_dict(content["spec"]), folders, content["options"])
    except InputError as error:
        print(f"mesaopt: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    search_rarely()
    sys.exit(main(sys.argv[1]))
