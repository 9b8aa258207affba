"""What the driver of a GPU is asked for, by one that only takes notes."""

import ctypes

import pytest
import torch

from mesaopt.backends.cuda import kernels
from mesaopt.backends.cuda.fused import filled
from mesaopt.backends.cuda.kernels import Module, OptimiseArguments
from mesaopt.backends.native.build import BuildError


class Driver:
    """Takes notes of calls; `refused` fails."""

    def __init__(self, refused: str = "") -> None:
        self.calls, self.refused = [], refused

    def __getattr__(self, name: str):
        def call(*arguments: object) -> int:
            self.calls.append((name, arguments))
            return 701 if name == self.refused else 0

        return call

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver()
    monkeypatch.setattr(kernels, "_driver", lambda: found)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: type("Stream", (), {"cuda_stream": 7}))
    return found


def test_a_kernel_is_found_once_and_given_what_it_needs(driver: Driver):
    module, arguments = Module(b"code"), filled(OptimiseArguments, count=3)
    module.launch("optimise", arguments, 5)
    module.launch("optimise", arguments, 5, 64, 100_000)
    module.launch("optimise", arguments, 5, 64, 90_000)
    found, more, launch = ["cuModuleGetFunction"], ["cuFuncSetAttribute"], ["cuLaunchKernel"]
    assert driver.names() == ["cuModuleLoadData", *found, *launch, *more, *launch, *launch]
    _, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, given, extra = driver.calls[4][1]
    assert (grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream.value) == (5, 1, 1, 64, 1, 1, 100_000, 7)
    assert extra is None and ctypes.cast(given[0], ctypes.POINTER(OptimiseArguments)).contents.count == 3


def test_what_the_driver_refuses_is_said_in_one_line(driver: Driver):
    driver.refused = "cuLaunchKernel"
    with pytest.raises(BuildError, match=r"^the CUDA driver refuses cuLaunchKernel with status 701$"):
        Module(b"code").launch("optimise", OptimiseArguments(), 1)
