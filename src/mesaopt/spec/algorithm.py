"""What a hand-written algorithm is: what it reads and how its parameters are learned (PAPER section 5)."""

from dataclasses import dataclass

from mesaopt.spec.json import Spec, require, require_name
from mesaopt.spec.run import Task

ALGORITHMS = ("gd", "chebyshev", "lsq", "kernel")
#: those that are not learned by gradient descent
SEARCHED = ("lsq", "kernel")
FORMS = ("textbook", "published")
INPUTS = ("observations", "concatenated", "features")


@dataclass(frozen=True)
class Theory(Spec):
    """Learning of a hand-written algorithm's parameters on the task's own next-token loss (PAPER section 5).

    `algorithm` is `gd` (eta line-searched, then eta and w_0 learned together), `chebyshev` (`n_steps` pairs alpha, beta), `lsq`
    (nothing to learn) or `kernel` (softmax kernel regression, whose beta is searched). `form` and `lag` choose the textbook
    scheme or the published variant (PAPER 9.12 and 9.15), `input` what it reads. `scalars` names another algorithm whose alpha
    and beta are taken (PAPER 5, 9.22). 1/lambda is `inverse_lam` while alpha and beta are learned; then the best of
    `search_values`, or `fixed_inverse_lam`, or the same; a search is on `search_sequences`.
    """

    name: str
    task: Task
    algorithm: str
    steps: int = 0
    lr: float = 0.0
    batch: int = 256
    n_steps: int = 0
    inverse_lam: float = 0.001
    form: str = "textbook"
    lag: int = 0
    weight_decay: float = 0.05
    warmup: int = 500
    horizon: int | None = None
    final_lr: float | None = 1e-5
    input: str = "observations"
    k: int = 0
    scalars: str = ""
    fixed_inverse_lam: float | None = None
    search_values: int = 0
    search_low: float = 0.001
    search_high: float = 10.0
    search_sequences: int = 512

    def modules(self) -> tuple[str, ...]:
        """Modules that no import names: that of the task."""
        return self.task.modules()

    @property
    def descends(self) -> bool:
        """Whether parameters are learned by gradient descent of their own."""
        return self.algorithm not in SEARCHED and not self.scalars

    @property
    def used_inverse_lam(self) -> float:
        """1/lambda of the predictions, where it is not searched."""
        return self.inverse_lam if self.fixed_inverse_lam is None else self.fixed_inverse_lam

    def __post_init__(self) -> None:
        require_name(self.name)
        for key, known in (("algorithm", ALGORITHMS), ("form", FORMS), ("input", INPUTS)):
            value = getattr(self, key)
            require(value in known, f"{self.name}: unknown {key} {value!r}: {', '.join(known[:-1])} or {known[-1]}")
        require(self.lag in (0, 1), f"{self.name}: lag must be 0 or 1, not {self.lag}")
        require(self.batch >= 1 and self.inverse_lam > 0, f"{self.name}: batch must be at least 1, inverse_lam positive")
        if self.descends:
            require(self.steps >= 1 and self.lr > 0, f"{self.name}: steps must be at least 1 and lr positive")
        chebyshev = self.algorithm == "chebyshev"
        require((self.n_steps >= 1) == chebyshev, f"{self.name}: n_steps is for chebyshev, at least 1")
        require(chebyshev or not self.scalars, f"{self.name}: scalars are for chebyshev")
        learns = self.algorithm not in SEARCHED
        require(learns or not (self.steps or self.lr), f"{self.name}: {self.algorithm} learns nothing: no steps, no lr")
        self._check_input()
        self._check_inverse_lam()

    def _check_input(self) -> None:
        plain = self.algorithm in ("gd", "kernel")
        require(not plain or self.input == "observations", f"{self.name}: {self.algorithm} reads observations, not {self.input}")
        require(self.algorithm != "kernel" or self.lag == 0, f"{self.name}: kernel uses all pairs: no lag")
        time = self.task.context_length
        if self.input == "concatenated":
            require(1 <= self.k <= time, f"{self.name}: k must lie in 1..{time}, the context, not be {self.k}")
        else:
            require(self.k == 0, f"{self.name}: k is for input concatenated, not {self.input}")

    def _check_inverse_lam(self) -> None:
        given = (self.fixed_inverse_lam is not None) + (self.search_values != 0)
        require(given <= 1, f"{self.name}: fixed_inverse_lam contradicts search_values")
        require(self.algorithm != "gd" or not given, f"{self.name}: gd has no 1/lambda")
        require(self.algorithm != "lsq" or self.fixed_inverse_lam is None, f"{self.name}: lsq has one 1/lambda, inverse_lam")
        require(self.fixed_inverse_lam is None or self.fixed_inverse_lam > 0, f"{self.name}: fixed_inverse_lam must be positive")
        if self.algorithm == "kernel":
            alone = self.search_values >= 1 and self.fixed_inverse_lam is None
            require(alone, f"{self.name}: kernel has no 1/lambda; its beta is searched, of at least 1 of search_values")
        require(self.search_sequences >= 1, f"{self.name}: search_sequences must be at least 1, not {self.search_sequences}")
        require(self.search_values >= 0, f"{self.name}: search_values must not be negative, not {self.search_values}")
        low, high = self.search_low, self.search_high
        require(0 < low < high, f"{self.name}: search_low {low} must be positive and below search_high {high}")
