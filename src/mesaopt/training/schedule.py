"""The learning rate as a function of the step: linear warm-up, then constant or cosine."""

import math

from mesaopt.errors import InputError


def learning_rate(step: int, lr: float, warmup: int, horizon: int | None, final_lr: float | None) -> float:
    """Learning rate of update `step` = 0, 1, ...

    Rises linearly from 0 (at step 0) to `lr` (at step `warmup`; at once when `warmup` is 0). Then it stays there when `final_lr`
    is None, and otherwise follows half a cosine to `final_lr` at step `horizon`, which counts from step 0, warm-up included;
    `final_lr` from then on. Raises `InputError` when a cosine has no horizon beyond its warm-up.
    """
    if step < warmup:
        return lr * step / warmup
    if final_lr is None:
        return lr
    if horizon is None or horizon <= warmup:
        raise InputError(f"a cosine to {final_lr} needs a horizon beyond its warm-up of {warmup} steps, not {horizon}")
    progress = min(1.0, (step - warmup) / (horizon - warmup))
    return final_lr + (lr - final_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))
