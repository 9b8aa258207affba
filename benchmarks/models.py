"""What is measured: models of the paper on their tasks, and the operations that one training step of them needs.

Imports nothing beyond the specs, so that a JAX process can read it without PyTorch.
"""

from dataclasses import replace

from mesaopt.spec.run import Model, Run, Task, Training

_LSA = {"tokens": "constructed", "n_heads": 4, "clip": 4.0, "init_std": 2e-4}
_RAW = {"tokens": "raw", "n_heads": 4, "d_pe": 40, "init_std": 0.05}
_SOFTMAX_7 = _RAW | {"layers": ("softmax",) * 7}
_MODELS = {
    "LSA-1": _LSA | {"layers": ("linear",), "tokens": "constructed_bare", "n_heads": 2},
    "LSA-6": _LSA | {"layers": ("linear",) * 6},
    "Softmax-7": _SOFTMAX_7,
    "Mesa-1": _LSA | {"layers": ("mesa",), "tokens": "constructed_bare"},
    "Hybrid-mesa": _RAW | {"layers": ("softmax", "mesa"), "clip": 1.0},
    "Softmax-7-partial": _SOFTMAX_7 | {"n_heads": 12, "d_model": 80, "d_head": 20, "d_pe": 80},
    "Softmax-7-nonlinear": _SOFTMAX_7 | {"d_model": 60, "d_head": 20, "d_pe": 60, "d_mlp": 300, "normalise": "qk"},
    "Softmax-7-few-shot": _SOFTMAX_7,
    "Softmax-7-n60": _SOFTMAX_7 | {"d_pe": 240},
}
#: of models that are not on the linear task
_TASKS = {"Softmax-7-partial": Task("partial", 15, 5), "Softmax-7-nonlinear": Task("nonlinear")}
NAMES = tuple(_MODELS)
#: sizes other than the usual ones: the contexts of few-shot regression, and the largest state of linearisation
SIZES = {"Softmax-7-few-shot": {"batch": 128, "time": 224}, "Softmax-7-n60": {"batch": 64, "time": 240, "n_state": 60}}


def make_run(name: str, **sizes: int) -> Run:
    """The run of a model at sizes other than the paper's: batch, time (context length), n_state, depth.

    On the linear task widths follow the state: 4 n, per head 2 n; other tasks have one size.
    """
    return _make_run(name, **({"batch": 256, "time": 50, "n_state": 10, "depth": None} | SIZES.get(name, {}) | sizes))


def _make_run(name: str, batch: int, time: int, n_state: int, depth: int | None) -> Run:
    values = {"d_model": 4 * n_state, "d_head": 2 * n_state} | _MODELS[name]
    if depth is not None:
        values["layers"] = values["layers"][:1] * depth
    task = replace(_TASKS[name], context_length=time) if name in _TASKS else Task("linear", n_state, n_state, time)
    return Run(f"benchmark/{name.lower()}", task, Model(**values), Training(lr=1e-4, steps=10**6, batch=batch))


def operations(run: Run) -> float:
    """Floating-point operations of one training step of a stack without mesa-layers, a fused multiply-add counted as two.

    Forward and backward, every layer alike, only the pairs that causality leaves; elementwise work, embedding and unembedding are
    not counted. Raises `ValueError` for a mesa-layer, whose recursion is more than products.
    """
    if not counts(run):
        raise ValueError("only layers that are products alone are counted")
    time, model = run.task.context_length, run.model
    projections = 4 * time * model.d_model * model.d_head
    attention = 2 * (time * (time + 1) // 2) * model.d_head
    layer = model.n_heads * (projections + attention) + 2 * time * model.d_model * model.d_mlp
    return 2.0 * 3 * run.training.batch * len(model.layers) * layer


def counts(run: Run) -> bool:
    """Whether `operations` can say how many a run needs."""
    return set(run.model.layers) <= {"linear", "softmax"}
