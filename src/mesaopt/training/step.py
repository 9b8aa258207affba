"""One training step: a fresh batch, its loss and gradients, elementwise clipping, AdamW (paper, section on training details)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.protocol import Backend
from mesaopt.data.sequences import training_batch
from mesaopt.spec.run import Run
from mesaopt.spec.words import module
from mesaopt.training.schedule import learning_rate
from mesaopt.training.state import TrainingState

GRADIENT_CLIP = 1.0


def update(run: Run, seeds: Sequence[int], state: TrainingState, backend: Backend) -> Float[Tensor, " pack"]:
    """Make the next step of all stacked `seeds`. Returns the loss before the step."""
    training, device = run.training, state.optimizer.values.device.type
    sampler = backend.sampler(run.task)
    observations = training_batch(run.task, seeds, training.batch, training.stream, state.step, device, sampler)
    losses = descend(run, state, backend, observations, factors(run, state))
    state.step += 1
    state.train_losses = losses
    return losses


def factors(run: Run, state: TrainingState) -> Float[Tensor, "3"]:
    """What the number of the present step decides about it, as the optimiser takes it; on the CPU."""
    training, step = run.training, state.step
    lr = learning_rate(step, training.lr, training.warmup, training.horizon or training.steps, training.final_lr)
    return state.optimizer.factors(step, lr)


def descend(
    run: Run,
    state: TrainingState,
    backend: Backend,
    observations: Float[Tensor, "pack batch time_plus_1 n_obs"],
    factors: Float[Tensor, "3"],
) -> Float[Tensor, " pack"]:
    """The part of a step that is the same calls on tensors of the same shapes every time. Returns the loss before it."""
    losses = backend.loss_and_gradients(state.model, *tokens_targets(run, observations))
    state.optimizer.gradients.clamp_(-GRADIENT_CLIP, GRADIENT_CLIP)
    state.optimizer.update_by(factors)
    return losses


def tokens_targets(run: Run, observations: Float[Tensor, "pack batch time_plus_1 n_obs"]) -> tuple[Tensor, Tensor]:
    """What the model reads (pack, batch, time, token), and what it shall predict (pack, batch, time, n_obs)."""
    examples: tuple[Tensor, Tensor] = module("objective", run.training.objective).examples(run.model, observations)
    return examples
