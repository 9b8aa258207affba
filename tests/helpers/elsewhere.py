"""Analyses on a device that is not there: tensors without content that know where they are, so that a mixture is an error.

`python tests/helpers/elsewhere.py` says of every analysis, a line each, that its result came back to the CPU.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from mesaopt.algorithms.gradient_descent import GradientDescent
from mesaopt.algorithms.least_squares import LeastSquares
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.algorithms.reading import Reading
from mesaopt.analyses import attention_maps, feature_probes, in_context, linear_probes, sensitivity, token_probes
from mesaopt.analyses.control_probe import control_table
from mesaopt.analyses.linear_probes import activations
from mesaopt.analyses.probe_targets import Sample, make_targets
from mesaopt.analyses.probing import Probing
from mesaopt.analyses.trained import Trained
from mesaopt.data.mlp import Mlp
from mesaopt.data.tasks import nonlinear
from mesaopt.models.predictors import loss_by_position, losses, model_predictor
from mesaopt.models.products import ProductModel, average
from mesaopt.models.transformer import Transformer
from mesaopt.spec.analysis import Samples, Tokens
from mesaopt.spec.run import Model, Run, Task, Training

DEVICE = "elsewhere"
N = 3
RAW = Model(("softmax", "mesa"), "raw", 12, 2, 5, 0.1, d_pe=12)
CONSTRUCTED = Model(("linear", "linear"), "constructed", 4 * N, 2, 5, 0.1, clip=4.0)
ALGORITHM = Preconditioned((1.0, 2.0), (0.0, 0.5), reading=Reading(2))
ALGORITHMS = {"preconditioned_input": ALGORITHM, "preconditioned_input_published": replace(ALGORITHM, form="published")}


class Module(_DummyBackendModule):
    """What PyTorch wants to know of a device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16]


def trained(model: Model, kind: str = "linear") -> Trained:
    run = Run("a/b", Task("a", N, N, 9, kind), model, Training(lr=0.1, steps=1))
    with torch.device(DEVICE):
        return Trained(run, 1, Transformer(model, N))


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    x = torch.randn(6, 10, N, device=DEVICE)
    raw, constructed = trained(RAW), trained(CONSTRUCTED)
    task, splits = raw.run.task, {"evaluation": x, "probe_fit": x, "probe_score": x}
    sample = Sample(x, make_targets(task, x, ALGORITHMS))
    yield "evaluate", lambda: losses(model_predictor(raw.model), x)
    for algorithm in (GradientDescent(0.1, 0.2), LeastSquares(0.1), ALGORITHM):
        yield f"evaluate {type(algorithm).__name__}", lambda of=algorithm: losses(of, x)
    products = ProductModel.from_weights(constructed.model.seed_weights(0), CONSTRUCTED, N)
    yield "interpolate", lambda: loss_by_position(average(products.compress(), products), x)
    yield "attention", lambda: attention_maps.mean_weights(raw.model, x)
    yield "sensitivity", lambda: sensitivity.sensitivities(raw.model, x)
    readouts = torch.randn(3, 4 * N, N, dtype=torch.float64, device=DEVICE)
    yield "in-context loss", lambda: in_context.in_context_loss(constructed.model, x, readouts)
    probing = Probing(lambda one: Sample(one, make_targets(task, one, ALGORITHMS)), activations, ("next_token",))
    yield "probe", lambda: probing.table(raw, splits, False, Samples())[0]
    yield "control-probe", lambda: control_table(sample, sample)
    yield "token-probes", lambda: token_probes.token_table(raw, splits, False, Tokens(tokens=4))
    other = trained(RAW, "nonlinear")
    yield "feature-probes", lambda: feature_probes.feature_table(other, splits, False, Samples())


def main() -> None:
    _setup_privateuseone_for_python_backend(DEVICE, Module())
    # the few sequences that a position leaves out are found by looking, which tensors without content do not bear
    linear_probes._gram_of = lambda x, chosen: x.new_zeros(*x.shape[:2], x.shape[-1], x.shape[-1]) + chosen.sum()
    FakeTensor.numpy = lambda self: np.zeros(_on_cpu(self).shape)
    with FakeTensorMode(shape_env=ShapeEnv()):
        of_the_task = Mlp(torch.randn(N, 40), torch.randn(40, N))
        nonlinear.mlp = lambda size: of_the_task
        for name, check in checks():
            result = check()
            print(name, _on_cpu(result).device if isinstance(result, Tensor) else type(result).__name__, flush=True)
        try:
            loss_by_position(lambda inputs: torch.zeros(6, 9, N), torch.randn(6, 10, N, device=DEVICE))
        except (RuntimeError, TypeError) as error:
            print("a mixture:", str(error).splitlines()[0])


def _on_cpu(tensor: Tensor) -> Tensor:
    assert tensor.device.type == "cpu", f"left on {tensor.device}"
    return tensor


if __name__ == "__main__":
    main()
