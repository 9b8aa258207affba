"""Where a process computes."""

from pathlib import Path

from mesaopt.errors import InputError


def choose_device(name: str) -> str:
    """`cpu` or `cuda`; `auto` takes a GPU where there is one. Raises `InputError` when a GPU is asked for in vain."""
    if name == "cpu" or (name == "auto" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise InputError("--device cuda: no GPU that this PyTorch can use; take cpu or auto")
    return "cpu"
