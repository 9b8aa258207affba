"""What a hand-written algorithm is: how its parameters are learned (PAPER section 5)."""

from dataclasses import dataclass

from mesaopt.spec.json import Spec, require, require_name
from mesaopt.spec.run import Task


@dataclass(frozen=True)
class Theory(Spec):
    """Learning of a hand-written algorithm's parameters on the task's own next-token loss (PAPER section 5).

    `algorithm` is `gd` (eta line-searched, then eta and w_0 learned together) or `chebyshev` (`n_steps` pairs alpha, beta).
    `form` and `lag` choose the textbook scheme or the published variant (PAPER 9.12 and 9.15).
    """

    name: str
    task: Task
    algorithm: str
    steps: int
    lr: float
    batch: int = 256
    n_steps: int = 0
    inverse_lam: float = 0.001
    form: str = "textbook"
    lag: int = 0
    weight_decay: float = 0.05
    warmup: int = 500
    horizon: int | None = None
    final_lr: float | None = 1e-5

    def modules(self) -> tuple[str, ...]:
        """Modules that no import names: that of the task."""
        return self.task.modules()

    def __post_init__(self) -> None:
        require_name(self.name)
        require(self.algorithm in ("gd", "chebyshev"), f"{self.name}: unknown algorithm {self.algorithm!r}: gd or chebyshev")
        require(self.form in ("textbook", "published"), f"{self.name}: unknown form {self.form!r}: textbook or published")
        require(self.lag in (0, 1), f"{self.name}: lag must be 0 or 1, not {self.lag}")
        require(self.steps >= 1 and self.batch >= 1, f"{self.name}: steps and batch must be at least 1")
        require(self.lr > 0 and self.inverse_lam > 0, f"{self.name}: lr and inverse_lam must be positive")
        require((self.n_steps >= 1) == (self.algorithm == "chebyshev"), f"{self.name}: n_steps is for chebyshev, at least 1")
