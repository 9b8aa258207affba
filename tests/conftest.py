"""Shapes in signatures are checked in every test: the import hook must come before anything imports mesaopt."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("mesaopt", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)
