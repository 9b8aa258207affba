"""The training step of the CUDA backend: a handful of launches, captured as a graph like any other step of a GPU."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.cuda.backend import CudaBackend
from mesaopt.backends.cuda.draw import DeviceDraws
from mesaopt.backends.cuda.fused import TOKENS, optimise
from mesaopt.spec.run import Run
from mesaopt.training.captured import CapturedStep, cuda_graph
from mesaopt.training.optimizer import BETAS, EPSILON
from mesaopt.training.state import TrainingState
from mesaopt.training.step import GRADIENT_CLIP


class FusedStep(CapturedStep):
    """`CapturedStep` without PyTorch between the batch and the new weights: the kernel reads observations, and its gradients go
    to AdamW's vectors directly.
    """

    def __init__(
        self,
        run: Run,
        seeds: Sequence[int],
        state: TrainingState,
        backend: CudaBackend,
        capture: Callable[[Callable[[], None]], Callable[[], None]] = cuda_graph,
    ) -> None:
        super().__init__(run, seeds, state, backend, capture)
        task, counted = run.task, run.training.generator == "philox"
        self.fused = backend.fused(state.model, run.training.batch, task.context_length, task.n_state if counted else 0)
        self.batch, device = self.observations, self.observations.device
        self.number, self.draws = torch.zeros(1, dtype=torch.int32, device=device), None
        if counted:  # on the device, to which nothing is sent
            self.draws, self.observations = DeviceDraws(self.fused.kernels, run, seeds, device), self.batch[:0]

    def draw(self) -> Iterator[Float[Tensor, "batch time_plus_1 n_obs"]]:
        """The batch of the present step for each seed; nothing where the device draws it, which is told the step."""
        if self.draws is None:
            yield from super().draw()
        self.number.fill_(self.state.step)

    def _compute(self) -> None:
        optimizer, observations = self.state.optimizer, self.batch
        vectors = optimizer.state() | {"gradients": optimizer.gradients}
        if self.draws is not None:
            self.draws.draw(self.number, observations)
        data = (observations, observations[:, :, 1:], TOKENS[self.run.model.tokens])
        self.losses.copy_(self.fused.losses_and_gradients(vectors["values"], vectors["gradients"], *data))
        optimise(self.fused.kernels, self.factors, GRADIENT_CLIP, BETAS, EPSILON, **vectors)
