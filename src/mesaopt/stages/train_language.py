"""The stage `train-language`: one seed of a run on text, in this process."""

import ctypes
import re
import sys
from pathlib import Path

import torch

from mesaopt.errors import InputError
from mesaopt.process.device import choose_device
from mesaopt.process.idle import threads_of
from mesaopt.spec.language import LanguageRun
from mesaopt.training.language import LanguageOptions, train_language

#: glibc's numbers for the sizes from which memory is asked of the system, and given back to it
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1


def train_language_stage(
    spec: LanguageRun,
    tokens: Path,
    weights: Path,
    checkpoints: Path,
    *,
    threads: int = 1,
    device: str = "auto",
    mesa_form: str = "chunked",
    checkpoint_every: float = 60.0,
) -> None:
    """Train the run `spec` on the text at `tokens`; the seed is that of the path `weights` (.../seed-N/weights.safetensors).

    With so many threads, or, as a lone job, all cores of its workflow, and a checkpoint every so many seconds. Raises
    `InputError` in one line.
    """
    seed = seed_of(weights)
    if threads < 1 or checkpoint_every < 0:
        raise InputError("--threads must be at least 1 and --checkpoint-every not negative")
    keep_memory()
    torch.set_num_threads(1)
    options = LanguageOptions(checkpoints, checkpoint_every, choose_device(device), mesa_form, threads=threads_of(threads))
    train_language(spec, seed, tokens, weights.parent, options)


def seed_of(weights: Path) -> int:
    """From a path that ends in seed-N/weights.safetensors; raises `InputError` for any other."""
    found = re.fullmatch(r"seed-(\d+)", weights.parent.name)
    if found is None or weights.name != "weights.safetensors":
        raise InputError(f"--weights {weights}: must end in seed-N/weights.safetensors")
    return int(found[1])


def keep_memory() -> None:
    """Freed memory is kept, or every step would page it in anew."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**30)
        ctypes.CDLL(None).mallopt(_TRIM_THRESHOLD, 2**31 - 1)
