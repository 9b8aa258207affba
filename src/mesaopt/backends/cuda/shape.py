"""What the CUDA code is compiled for."""

from dataclasses import asdict, dataclass

from mesaopt.backends.native.backend import NORMALISE, OBJECTIVE
from mesaopt.spec.run import Model, Run

#: the kinds of layers that the code has equations for, and their numbers there (`sizes.h`, Kind)
KINDS = {"linear": 0, "softmax": 1, "mesa": 2}
#: more layers than any model of the paper has (`step.h`)
MAX_LAYERS = 24
#: bytes of shared memory that one block, and all blocks of a multiprocessor, may have: by the GPU's compute capability. Other
#: GPUs of the same generations have no less than the least of them.
SHARED = {(8, 0): (166912, 167936), (9, 0): (232448, 233472), (10, 0): (232448, 233472)}
LEAST_SHARED = (101376, 102400)
#: the oldest GPUs that have so much
OLDEST = (8, 0)


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, whether its tokens are embedded, and as bits what has norm 1 (`NORMALISE`) and its kinds of layers.
    `n_state`: of the systems whose sequences are drawn on the device (0: nothing is drawn there).
    """

    time: int
    d_head: int
    d_model: int
    n_obs: int
    d_pe: int
    d_mlp: int
    normalise: int
    raw: bool
    kinds: int
    n_state: int = 0

    def definitions(self, capability: tuple[int, int]) -> tuple[str, ...]:
        """The sizes as preprocessor definitions, for a GPU of a compute capability such as (9, 0)."""
        block, processor = SHARED.get(capability, LEAST_SHARED)
        values = asdict(self) | {"shared_block": block, "shared_processor": processor}
        return tuple(f"-DMESAOPT_{name.upper()}={int(value)}" for name, value in values.items())


def shape_of(model: Model, n_obs: int, time: int, n_state: int = 0) -> Shape:
    """Of a supported model at a context length, and of the systems whose sequences are drawn on the device."""
    kinds = sum(1 << KINDS[kind] for kind in set(model.layers))
    sizes = (time, model.d_head, model.d_model, n_obs, model.d_pe, model.d_mlp)
    return Shape(*sizes, NORMALISE[model.normalise], model.tokens == "raw", kinds, n_state)


def unsupported(model: Model) -> str | None:
    """Why the CUDA kernel cannot compute this model, or None if it can."""
    for kind in model.layers:
        if kind not in KINDS:
            return f"the CUDA kernel has no {kind} layer"
    if model.normalise not in NORMALISE:
        return f"the CUDA kernel has no normalisation {model.normalise}"
    if len(model.layers) > MAX_LAYERS:
        return f"the CUDA kernel has at most {MAX_LAYERS} layers"
    return None


def unsupported_run(run: Run) -> str | None:
    """The same of a run, which also has an objective."""
    if run.training.objective != OBJECTIVE:
        return f"the CUDA kernel has no objective {run.training.objective}"
    return unsupported(run.model)
