"""The search for reference cycles is rare, and nothing that is computed in a loop waits for it."""

import gc
import subprocess
import sys
from collections.abc import Callable

import pytest
from stage_files import observations, transformer
from tiny_runs import MODELS, make_run

from mesaopt.backends.torch import TorchBackend
from mesaopt.models.predictors import loss_by_position, model_predictor
from mesaopt.training.loop import update
from mesaopt.training.state import TrainingState

PROCESS = """
import atexit, gc, runpy, sys
atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count()))
sys.argv = ["mesaopt", "--help"]
runpy.run_module("mesaopt", run_name="__main__")
"""


def left_behind(work: Callable[[], object]) -> int:
    """Objects in cycles that `work` leaves each time it is done: not what its first time leaves alone (late imports, caches of
    PyTorch), nor what another thread of the process happens to leave meanwhile."""
    gc.disable()
    try:
        return min(_left_once(work) for _ in range(3))
    finally:
        gc.enable()


def _left_once(work: Callable[[], object]) -> int:
    gc.collect()
    work()
    return gc.collect()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_cycle_of_every_time_is_counted_and_one_of_the_first_time_is_not():
    first = [Cycle]
    assert left_behind(Cycle) > 0
    assert left_behind(lambda: first.pop()() if first else None) == 0


@pytest.mark.parametrize("model", MODELS)
def test_training_steps_leave_no_cycles(model: str):
    run = make_run(model)
    state = TrainingState.initial(run, [1], "cpu")
    assert left_behind(lambda: [update(run, [1], state, TorchBackend()) for _ in range(5)]) == 0


def test_a_training_step_that_left_a_cycle_would_be_found():
    class Leaky(TorchBackend):
        def loss_and_gradients(self, *arguments):
            Cycle()
            return super().loss_and_gradients(*arguments)

    run = make_run(next(iter(MODELS)))
    state = TrainingState.initial(run, [1], "cpu")
    assert left_behind(lambda: update(run, [1], state, Leaky())) > 0


def test_evaluation_leaves_no_cycles():
    predictor, data = model_predictor(transformer("mesa")), observations(6).float()
    loss_by_position(predictor, data)
    assert left_behind(lambda: loss_by_position(predictor, data, chunk=1)) == 0


def test_a_stage_searches_rarely_and_not_at_its_end():
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)
    threshold, frozen = map(int, done.stdout.splitlines()[-1].split())
    assert threshold > 10_000
    assert frozen > 1000
