"""What trainings ask of whoever computes loss and gradients."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from mesaopt.data.sampler import Sampler
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Task


@runtime_checkable
class Backend(Protocol):
    """Loss per stacked seed: half the squared error summed over channels, mean over sequences and positions."""

    name: str

    def sampler(self, task: Task) -> Sampler:
        """How training batches of `task` are drawn."""
        ...

    def loss(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss alone."""
        ...

    def loss_and_gradients(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss, and in each parameter's `.grad` the gradient of its own seed's loss: in place, in lieu of what it held."""
        ...
