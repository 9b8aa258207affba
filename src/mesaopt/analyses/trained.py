"""A trained model with its settings and seed, from which it can also be had as it was before its training."""

import os
from dataclasses import dataclass, replace

import torch

from mesaopt.models.transformer import Transformer, initialise
from mesaopt.models.weights import load_model
from mesaopt.process.device import choose_device
from mesaopt.spec.run import Run, read_run


@dataclass(frozen=True)
class Trained:
    """The model of one seed of a run, as a pack of one."""

    run: Run
    seed: int
    model: Transformer

    @classmethod
    def read(cls, weights: str | os.PathLike[str], device: str = "cpu") -> "Trained":
        """From its file, to `device`; its spec.json lies beside it.

        Raises `InputError` when a file is missing or does not fit, or there is no such device.
        """
        run, seed = read_run(weights)
        return cls(run, seed, load_model(run, weights).to(choose_device(device)))

    @property
    def device(self) -> torch.device:
        """Where its sequences belong."""
        return next(self.model.parameters()).device

    def untrained(self) -> Transformer:
        """The model from the same initialisation."""
        return initialise(self.run.model, self.run.task.n_obs, [self.seed]).to(self.device)


def first_layers(model: Transformer, count: int) -> Transformer:
    """The same embedding and parameters with the first `count` layers alone: what comes later need not be computed."""
    short = Transformer(replace(model.model, layers=model.model.layers[:count]), model.n_obs, model.pack)
    parameters = model.state_dict(keep_vars=True)
    short.load_state_dict({name: parameters[name] for name in short.state_dict()}, assign=True)
    return short
