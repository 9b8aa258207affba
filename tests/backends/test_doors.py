"""A kind of layer that somebody has no equation for is refused by name, at every door; it never runs as another one."""

import ctypes
from typing import Any

import pytest
import torch

from mesaopt.backends.native import backend as native
from mesaopt.backends.native.build import kernel_library
from mesaopt.backends.written_out.block import Scratch, WrittenBlock
from mesaopt.backends.written_out.stack import supports
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.spec import run as spec
from mesaopt.spec.run import Model

PLANTED = "planted"
SIZES: dict[str, Any] = {"tokens": "constructed", "d_model": 12, "n_heads": 2, "d_head": 5, "init_std": 0.1}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model with a kind of layer that specs allow, and nobody computes."""
    monkeypatch.setattr(spec, "require_word", lambda meaning, word: None)
    return Model(layers=("linear", PLANTED), **SIZES)


def disguised(model: Model) -> Transformer:
    """A Transformer that claims to have these layers."""
    transformer = Transformer(Model(layers=("linear", "linear"), **SIZES), 3)
    transformer.model = model
    return transformer


def test_automatic_differentiation_refuses_it(model: Model) -> None:
    with pytest.raises(InputError, match="planted"):
        Transformer(model, 3)(torch.zeros(1, 2, 6, 12))


def test_the_written_out_stack_refuses_it(model: Model) -> None:
    assert not supports(model)
    with pytest.raises(InputError, match="planted"):
        WrittenBlock(model, 1, 12, 6, 2, Scratch(model, 6, 2, torch.float32))


def test_the_native_backend_refuses_it(model: Model) -> None:
    assert "planted" in (native.unsupported(model) or "")
    tokens, targets = torch.zeros(1, 2, 6, 12), torch.zeros(1, 2, 6, 3)
    with pytest.raises(InputError, match="planted"):
        native.NativeBackend().loss(disguised(model), tokens, targets)


@pytest.mark.usefixtures("kernels")
def test_the_kernel_itself_refuses_it(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind all checks in Python the kernel looks the name up in its own table."""
    monkeypatch.setattr(native, "KINDS", native.KINDS | {PLANTED: None})
    tokens, targets = torch.zeros(1, 2, 6, 12), torch.zeros(1, 2, 6, 3)
    with pytest.raises(InputError, match="planted"):
        native.NativeBackend().loss(disguised(model), tokens, targets)


@pytest.mark.usefixtures("kernels")
def test_the_order_of_names_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds reach the kernel by name: another order of the lists in Python changes no loss."""
    torch.manual_seed(0)
    model = Model(layers=("softmax", "linear", "mesa"), **SIZES)
    transformer = Transformer(model, 3)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            parameter.fill_(1.0) if name.endswith("lam") else parameter.normal_(std=0.3)
    tokens, targets = torch.randn(1, 3, 6, 12), torch.randn(1, 3, 6, 3)
    before = native.NativeBackend().loss(transformer, tokens, targets)
    monkeypatch.setattr(native, "KINDS", dict(reversed(native.KINDS.items())))
    assert native.NativeBackend().loss(transformer, tokens, targets) == before
    shape = native._shape(model, 3, 6)
    assert kernel_library(shape).mesaopt_loss.restype is ctypes.c_double
