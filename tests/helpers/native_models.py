"""Models that the native kernel supports, for its tests."""

from mesaopt.spec.run import Model, Run, Task, Training


def lsa(**changes) -> Model:
    settings = {
        "layers": ("linear",),
        "tokens": "constructed",
        "d_model": 40,
        "n_heads": 2,
        "d_head": 20,
        "init_std": 2e-4,
        "clip": 4.0,
    }
    return Model(**(settings | changes))


def run(model: Model) -> Run:
    return Run(name="test/run", task=Task(name="linear"), model=model, training=Training(lr=1e-3, steps=1))
