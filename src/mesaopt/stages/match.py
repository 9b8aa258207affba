"""Two trainings from one initialisation, compared head by head: where they part, and what averaging costs when heads are matched.

Interpolation averages products of two trainings. That loses nothing where every head does the same in both, and much where two
heads have changed places, or a head its sign: averages of those are no such model. Both are the same function, so nothing but the
average can tell. Here the heads of the first training are put in the order and signs in which they are most like the second's
(`models.matching`) before they are averaged.
"""

import os
from collections.abc import Iterator, Mapping

import pandas as pd

from mesaopt.analyses.snapshots import read_snapshots
from mesaopt.data.test_sets import fixed_test_batches
from mesaopt.errors import InputError
from mesaopt.models.matching import Match, distances, match, matched, mean
from mesaopt.models.products import ProductModel, average
from mesaopt.process.device import choose_device
from mesaopt.spec.run import Run, read_run
from mesaopt.stages.interpolate import batch_losses
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]
#: models by step
Training = Mapping[int, ProductModel]


def read_training(snapshots: File, device: str) -> tuple[Run, int, Training]:
    """The run, its seed, and its snapshots as products, in the order of steps."""
    run, seed = read_run(snapshots)
    models = {
        step: ProductModel.from_weights({name: values.to(device) for name, values in weights.items()}, run.model, run.task.n_obs)
        for step, weights in read_snapshots(snapshots).items()
    }
    return run, seed, models


def match_run(first: File, snapshots: File, matching: File, losses: File, device: str = "cpu") -> None:
    """Write tables `matching` and `matched_loss` of the trainings whose snapshots are `first` and `snapshots`, the second one.

    Each file has its spec.json beside it. Raises `InputError` when files are missing, or the trainings are not of one
    initialisation.
    """
    where = choose_device(device)
    (before, seed, ours), (run, other, theirs) = (read_training(path, where) for path in (first, snapshots))
    if (before.model, before.task, seed) != (run.model, run.task, other):
        raise InputError(f"{before.name} and {run.name}: trainings that are matched have one task, one model and one seed")
    write_table(pd.DataFrame(list(_compared(ours, theirs)), columns=COLUMNS), "matching", matching)
    batches = fixed_test_batches(run, [seed], where)[:, 0]
    rows = [
        (name, batch, step, loss)
        for step, name, model in _averaged(ours, theirs)
        for batch, loss in enumerate(batch_losses(model, batches))
    ]
    write_table(pd.DataFrame(rows, columns=["predictor", "batch", "step", "test_loss"]), "matched_loss", losses)


COLUMNS = ["step", "layer", "head", "other", "sign", "swapped", "distance", "matched"]
Row = tuple[int, int, int, int, int, int, float, float]


def _compared(ours: Training, theirs: Training) -> Iterator[Row]:
    """Of every step that both have: a row for each head, and one of means over all (layer 0, head 0), where `other` counts the
    heads that another one is most like, `sign` those of the other sign.
    """
    for step in sorted(ours.keys() & theirs.keys()):
        a, b = theirs[step], ours[step]
        found = match(a, b)
        after = {(layer, head): value for layer, head, value in distances(a, matched(b, found))}
        rows: list[Row] = [
            (step, layer, head, 1 + found.heads[layer - 1][head - 1], found.signs[layer - 1][head - 1], int(found.swapped), value,
             after[layer, head])
            for layer, head, value in distances(a, b)
        ]  # fmt: skip
        moved, turned = (sum(wrong) for wrong in zip(*((row[3] != row[2], row[4] < 0) for row in rows), strict=True))
        yield (step, 0, 0, moved, turned, int(found.swapped), mean([row[6] for row in rows]), mean([row[7] for row in rows]))
        yield from rows


def _averaged(ours: Training, theirs: Training) -> Iterator[tuple[int, str, ProductModel]]:
    """Every step of the second training with the models whose loss is measured there."""
    end = ours[max(ours)]
    for step, trained in theirs.items():
        yield step, "trained", trained
        for name, found in (("", Match.none(end)), ("_matched", match(trained, end))):
            yield step, f"interpolation{name}", average(matched(end, found).compress(), trained)
        if step in ours:
            yield step, "first", ours[step]
            for name, found in (("", Match.none(end)), ("_matched", match(trained, ours[step]))):
                yield step, f"between{name}", average(matched(ours[step], found), trained)
