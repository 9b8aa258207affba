"""Batches drawn on the device by counter: those of `data.counted`, up to rounding."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mesaopt.backends.cuda.fused import filled
from mesaopt.backends.cuda.kernels import DrawArguments, Kernels
from mesaopt.data.counted import FASTEST, SLOWEST, key, law_of, obs_noise, teacher
from mesaopt.data.sampler import state_noise
from mesaopt.spec.run import Run

#: kinds of matrices, as draw.h calls them
MATRICES = {"orthogonal": 0, "contracting": 1, "teacher": 2}


class DeviceDraws:
    """The batches of a run's trainings, one after another into the same memory."""

    def __init__(self, kernels: Kernels, run: Run, seeds: Sequence[int], device: torch.device) -> None:
        task, law, self.kernels = run.task, law_of(run.task), kernels
        self.sequences = len(seeds) * run.training.batch
        keys = np.stack([key(seed, run.training.stream) for seed in seeds])
        self.tensors = {"keys": torch.from_numpy(keys.view(np.int32)).to(device)}
        if law.matrix == "teacher":
            self.tensors["teacher"] = teacher(task).to(device)
        if mlp := law.mlp:
            self.tensors |= {"a": mlp.a.to(device).contiguous(), "b": mlp.b.to(device).contiguous()}
        self.numbers = {"matrix": MATRICES[law.matrix], "hidden": mlp.a.shape[1] if mlp else 0, "pairs": int(law.pairs)}
        self.numbers |= {"sequences": run.training.batch, "seeds": len(seeds)}
        self.factors = {"start": law.start, "bound": law.bound or 0.0, "state_noise": state_noise(task), "c_scale": law.c_scale}
        self.factors |= {"obs_noise": obs_noise(task), "slowest": SLOWEST, "fastest": FASTEST}
        sizes = kernels.sizes
        self.shared = sizes.draw + (sizes.draw_contracting if law.matrix == "contracting" else 0)

    def draw(self, step: Int[Tensor, "1"], observations: Float[Tensor, "pack batch time_plus_1 n_obs"]) -> None:
        """The batch of a step, whose number lies on the device."""
        fields = self.numbers | self.factors | self.tensors | {"step": step, "observations": observations}
        self.kernels.launch("draw", filled(DrawArguments, **fields), self.sequences, 32, self.shared)
