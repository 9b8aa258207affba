"""AdamW for language models: betas and decay as they are said, gradients scaled down to a norm, and a rate by tokens."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mesaopt.spec.language import LanguageTraining
from mesaopt.training import schedule
from mesaopt.training.optimizer import EPSILON, AdamW


class LanguageAdamW(AdamW):
    """The numbers of PyTorch's; weight decay holds for those parameters alone that are said to be `decayed`."""

    def __init__(self, parameters: Sequence[nn.Parameter], decayed: Sequence[bool], training: LanguageTraining) -> None:
        super().__init__(parameters, training.weight_decay)
        self.betas = training.beta_1, training.beta_2
        shares = [torch.full((p.numel(),), float(yes)) for p, yes in zip(parameters, decayed, strict=True)]
        self.decay = torch.cat(shares).to(self.values) * training.weight_decay

    def update(self, step: int, lr: float) -> None:
        """Update number `step` = 0, 1, ... from the present gradients."""
        beta_1, beta_2 = self.betas
        self.mean.lerp_(self.gradients, 1 - beta_1)
        self.square.mul_(beta_2).addcmul_(self.gradients, self.gradients, value=1 - beta_2)
        spread = self.square.sqrt().div_(math.sqrt(1 - beta_2 ** (step + 1))).add_(EPSILON)
        self.values.addcmul_(self.values, self.decay, value=-lr)
        self.values.addcdiv_(self.mean, spread, value=-lr / (1 - beta_1 ** (step + 1)))

    def clip(self, norm: float) -> Tensor:
        """Scale all gradients together down to a norm, if theirs is larger; returns what it was."""
        found = torch.linalg.vector_norm(self.gradients)
        self.gradients.mul_((norm / (found + 1e-6)).clamp(max=1.0))
        return found


def learning_rate(training: LanguageTraining, seen: int) -> float:
    """After `seen` tokens: linear from `first_lr` to `lr`, then half a cosine to `final_lr`, which it keeps."""
    if seen < training.warmup:
        return training.first_lr + (training.lr - training.first_lr) * seen / training.warmup
    final_lr = training.final_lr if training.horizon else None
    return schedule.learning_rate(seen, training.lr, training.warmup, training.warmup + training.horizon, final_lr)
