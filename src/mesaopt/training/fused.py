"""The training step of the CUDA backend: a handful of launches, captured as a graph like any other step of a GPU."""

from collections.abc import Callable, Sequence

from mesaopt.backends.cuda.backend import CudaBackend
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
        self.fused = backend.fused(state.model, run.training.batch, run.task.context_length)

    def _compute(self) -> None:
        optimizer, observations = self.state.optimizer, self.observations
        vectors = optimizer.state() | {"gradients": optimizer.gradients}
        data = (observations, observations[:, :, 1:], TOKENS[self.run.model.tokens])
        self.losses.copy_(self.fused.losses_and_gradients(vectors["values"], vectors["gradients"], *data))
        optimise(self.fused.kernels, self.factors, GRADIENT_CLIP, BETAS, EPSILON, **vectors)
