"""The training step of a GPU: captured once as a CUDA graph, then replayed with one call.

A step of these models is some hundreds of short kernels, with a mesa-layer thousands, and launching them one by one from Python
takes longer than they do. A graph reads and writes the same memory every time: what changes from step to step, the batch and the
optimiser's factors, is copied into place before it. The CPU draws the next batch while the GPU works on the present one.
"""

import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.protocol import Backend
from mesaopt.data.sequences import training_batch
from mesaopt.spec.run import Run
from mesaopt.training.state import TrainingState
from mesaopt.training.step import descend, factors

#: steps before the capture, in which libraries and the allocator set themselves up
WARM_UP = 3
#: steps that may wait for the device
AHEAD = 2


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """A call that does on the GPU what `step` does, which is called `WARM_UP` times. Raises `RuntimeError` where it cannot."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class CapturedStep:
    """`mesaopt.training.step.update` of one training, call after call; its tensors must stay where they are in memory.

    Where the capture fails every step is made kernel by kernel, and one line on standard error says why.
    """

    def __init__(
        self,
        run: Run,
        seeds: Sequence[int],
        state: TrainingState,
        backend: Backend,
        capture: Callable[[Callable[[], None]], Callable[[], None]] = cuda_graph,
    ) -> None:
        self.run, self.seeds, self.state, self.backend, self.capture = run, seeds, state, backend, capture
        device, task = state.optimizer.values.device, run.task
        shape = (len(seeds), run.training.batch, task.context_length + 1, task.n_obs)
        self.observations, self.factors = torch.empty(shape, device=device), torch.empty(3, dtype=torch.float64, device=device)
        self.losses = torch.empty(len(seeds), device=device)
        self.replay: Callable[[], None] | None = None
        self.under_way: list[torch.cuda.Event] = []

    def __call__(self) -> Float[Tensor, " pack"]:
        """Make the next step. Returns the loss before it, in memory that the next call overwrites."""
        state = self.state
        self._wait()
        for place, batch in zip(self.observations, self.draw(), strict=True):
            _send(batch, place)
        _send(factors(self.run, state), self.factors)
        if self.replay is None:
            self.replay = self._prepare()
        self.replay()
        self._mark()
        state.step += 1
        state.train_losses = self.losses
        return self.losses

    def draw(self) -> Iterator[Float[Tensor, "batch time_plus_1 n_obs"]]:
        """The batch of the present step for each seed, on the CPU. One after the other: threads gained nothing, which
        wait for Python's lock between calls that take some hundredths of a millisecond.
        """
        training, task = self.run.training, self.run.task
        sampler = self.backend.sampler(task)
        for seed in self.seeds:
            yield training_batch(task, [seed], training.batch, training.stream, self.state.step, sampler=sampler)[0]

    def _wait(self) -> None:
        """Be at most `AHEAD` steps ahead of the device: every step that waits there keeps its batches in pinned memory."""
        if len(self.under_way) == AHEAD:
            self.under_way.pop(0).synchronize()

    def _mark(self) -> None:
        if self.observations.is_cuda:
            self.under_way.append(torch.cuda.Event())
            self.under_way[-1].record()

    def _compute(self) -> None:
        self.losses.copy_(descend(self.run, self.state, self.backend, self.observations, self.factors))

    def _prepare(self) -> Callable[[], None]:
        """The captured step; the steps that the capture makes on its way are undone."""
        optimizer = self.state.optimizer
        before = {name: tensor.clone() for name, tensor in optimizer.state().items()}
        try:
            return self.capture(self._compute)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            print(f"mesaopt: {self.run.name}: steps are not captured as a graph: {reason}", file=sys.stderr, flush=True)
            return self._compute
        finally:
            optimizer.restore(before)


def _send(values: Tensor, buffer: Tensor) -> None:
    """Copy from the CPU without waiting for what the device is doing."""
    if buffer.is_cuda:
        values = values.pin_memory()
    buffer.copy_(values, non_blocking=True)
