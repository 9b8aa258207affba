"""The stage `linear-weights`: weight products of softmax layers and of the linear layers distilled from them."""

import os

import pandas as pd

from mesaopt.analyses.linearisation import products_by_start, read_linear_layers
from mesaopt.analyses.trained import Trained
from mesaopt.stages.extract import weights_table
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def linear_weights_stage(weights: File, linear_layers: File, out: File) -> None:
    """Write table `linear_weights`; raises `InputError` when files are missing or do not fit."""
    products = products_by_start(Trained.read(weights), read_linear_layers(linear_layers))
    frames = [weights_table(layers).assign(start=start) for start, layers in products]
    write_table(pd.concat(frames, ignore_index=True), "linear_weights", out)
