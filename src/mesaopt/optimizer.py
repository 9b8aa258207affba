"""AdamW on plain tensors: the same numbers as PyTorch's, without the two seconds that importing its compiler costs a process."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW:
    """Adam with decoupled weight decay. Elementwise throughout, so stacked seeds do not know of one another."""

    def __init__(self, parameters: Mapping[str, Tensor], weight_decay: float) -> None:
        self.parameters = dict(parameters)
        self.weight_decay = weight_decay
        self.mean = {name: torch.zeros_like(p, requires_grad=False) for name, p in self.parameters.items()}
        self.square = {name: torch.zeros_like(p, requires_grad=False) for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int, lr: float) -> None:
        """Update number `step` = 0, 1, ... of every parameter by its `.grad`."""
        beta_1, beta_2 = BETAS
        rate = lr / (1 - beta_1 ** (step + 1))
        unbias = math.sqrt(1 - beta_2 ** (step + 1))
        for name, p in self.parameters.items():
            assert p.grad is not None
            mean, square = self.mean[name], self.square[name]
            mean.lerp_(p.grad, 1 - beta_1)
            square.mul_(beta_2).addcmul_(p.grad, p.grad, value=1 - beta_2)
            p.mul_(1 - lr * self.weight_decay)
            p.addcdiv_(mean, square.sqrt().div_(unbias).add_(EPSILON), value=-rate)

    def to_tensors(self) -> dict[str, Tensor]:
        """The moments by name."""
        return {f"mean/{name}": m for name, m in self.mean.items()} | {f"square/{name}": s for name, s in self.square.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the moments from what `to_tensors` gave."""
        for name in self.parameters:
            self.mean[name].copy_(tensors[f"mean/{name}"])
            self.square[name].copy_(tensors[f"square/{name}"])
