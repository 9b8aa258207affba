"""What is measured: five models of the paper on the linear task, and the operations that one training step of them needs.

Imports nothing beyond the specs, so that a JAX process can read it without PyTorch.
"""

from mesaopt.spec.run import Model, Run, Task, Training

_LSA = {"tokens": "constructed", "n_heads": 4, "clip": 4.0, "init_std": 2e-4}
_RAW = {"tokens": "raw", "n_heads": 4, "d_pe": 40, "init_std": 0.05}
_MODELS = {
    "LSA-1": _LSA | {"layers": ("linear",), "tokens": "constructed_bare", "n_heads": 2},
    "LSA-6": _LSA | {"layers": ("linear",) * 6},
    "Softmax-7": _RAW | {"layers": ("softmax",) * 7},
    "Mesa-1": _LSA | {"layers": ("mesa",), "tokens": "constructed_bare"},
    "Hybrid-mesa": _RAW | {"layers": ("softmax", "mesa"), "clip": 1.0},
}
NAMES = tuple(_MODELS)


def make_run(name: str, *, batch: int = 256, time: int = 50, n_state: int = 10, depth: int | None = None) -> Run:
    """The run of a model, by default at the paper's batch and context length; widths follow the state: 4 n, per head 2 n."""
    values = dict(_MODELS[name])
    if depth is not None:
        values["layers"] = values["layers"][:1] * depth
    model = Model(d_model=4 * n_state, d_head=2 * n_state, **values)
    task = Task("linear", n_state, n_state, time)
    return Run(f"benchmark/{name.lower()}", task, model, Training(lr=1e-4, steps=10**6, batch=batch))


def operations(run: Run) -> float:
    """Floating-point operations of one training step of a stack of linear layers, a fused multiply-add counted as two.

    Forward and backward, every layer alike, only the pairs that causality leaves; elementwise work is not counted.
    """
    if set(run.model.layers) != {"linear"}:
        raise ValueError("only linear layers are products alone")
    time, model = run.task.context_length, run.model
    projections = 4 * time * model.d_model * model.d_head
    attention = 2 * (time * (time + 1) // 2) * model.d_head
    return 2.0 * 3 * run.training.batch * len(model.layers) * model.n_heads * (projections + attention)
