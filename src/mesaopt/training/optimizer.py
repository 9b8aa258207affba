"""AdamW on one long vector: the numbers of PyTorch's, at a tenth of the calls, and without the compiler that it imports.

(That import costs a process two seconds, which is as long as a small training.)
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW:
    """Adam with decoupled weight decay. Elementwise throughout, so stacked seeds do not know of one another.

    Takes the parameters over: their values and gradients become views of the vectors `values` and `gradients`. Who computes
    gradients must write into `.grad` in place.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        parameters = list(parameters)
        self.weight_decay = weight_decay
        self.values = torch.cat([p.detach().flatten() for p in parameters])
        self.gradients, self.mean, self.square = (torch.zeros_like(self.values) for _ in range(3))
        sizes = [p.numel() for p in parameters]
        for p, value, gradient in zip(parameters, self.values.split(sizes), self.gradients.split(sizes), strict=True):
            p.data, p.grad = value.view_as(p), gradient.view_as(p)

    def update(self, step: int, lr: float) -> None:
        """Update number `step` = 0, 1, ... from the present gradients."""
        self.update_by(self.factors(step, lr))

    def factors(self, step: int, lr: float) -> Float[Tensor, "3"]:
        """What depends on the number of the update: decay, size of the step, correction of the squares; float64 on the CPU."""
        beta_1, beta_2 = BETAS
        corrections = 1 - beta_1 ** (step + 1), math.sqrt(1 - beta_2 ** (step + 1))
        return torch.tensor([1 - lr * self.weight_decay, -lr / corrections[0], corrections[1]], dtype=torch.float64)

    def update_by(self, factors: Float[Tensor, "3"]) -> None:
        """The update with its `factors` on the device of the parameters: the same calls every time, as a captured step needs."""
        beta_1, beta_2 = BETAS
        decay, size, correction = factors.unbind()
        self.mean.lerp_(self.gradients, 1 - beta_1)
        self.square.mul_(beta_2).addcmul_(self.gradients, self.gradients, value=1 - beta_2)
        spread = self.square.sqrt().div_(correction).add_(EPSILON)
        self.values.mul_(decay).add_((self.mean * size).div_(spread))

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments."""
        return {"values": self.values, "mean": self.mean, "square": self.square}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Set parameters and moments in place from what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
