"""Tokens: the layout that the paper's runs use, and nothing from the future."""

import pytest
import torch

from mesaopt.data.tokens import concatenated, delayed, tokenise
from mesaopt.errors import InputError
from mesaopt.spec.run import TOKENS


def naive_token(inputs: torch.Tensor, t: int, kind: str) -> torch.Tensor:
    s, zero = inputs[t], torch.zeros(inputs.shape[-1])
    before = inputs[t - 1] if t > 0 else zero
    return {"raw": s, "constructed": torch.cat((zero, s, s, before)), "constructed_bare": torch.cat((zero, zero, s, before))}[
        kind
    ]


@pytest.mark.parametrize("kind", TOKENS)
def test_layout(kind: str) -> None:
    inputs = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    tokens = tokenise(inputs, kind)
    assert tokens.shape == (2, 3, 5, 4 if kind == "raw" else 16)
    for p in range(2):
        for b in range(3):
            for t in range(5):
                assert torch.equal(tokens[p, b, t], naive_token(inputs[p, b], t, kind))


@pytest.mark.parametrize("kind", [*TOKENS, "concatenated"])
def test_no_token_knows_a_later_element(kind: str) -> None:
    inputs = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    make = (lambda x: concatenated(x, 3)) if kind == "concatenated" else (lambda x: tokenise(x, kind))
    tokens = make(inputs)
    for t in range(6):
        changed = inputs.clone()
        changed[:, t] += 1
        assert torch.equal(make(changed)[:, :t], tokens[:, :t])
        assert not torch.equal(make(changed)[:, t], tokens[:, t])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_concatenated_observations(k: int) -> None:
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    z = concatenated(inputs, k)
    assert z.shape == (2, 5, 3 * k)
    for t in range(5):
        parts = [inputs[:, t - by] if t >= by else torch.zeros(2, 3) for by in range(k)]
        assert torch.equal(z[:, t], torch.cat(parts, dim=-1))


def test_delay_longer_than_the_sequence_is_zero() -> None:
    assert not delayed(torch.ones(1, 4, 2), 4).any() and not delayed(torch.ones(1, 4, 2), 7).any()


def test_unknown_tokens_are_refused() -> None:
    with pytest.raises(InputError, match="unknown tokens 'words': one of raw, constructed, constructed_bare"):
        tokenise(torch.ones(1, 2, 3), "words")


@pytest.mark.parametrize("k", [-1, 0, 6])
def test_concatenation_longer_than_the_context_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=rf"their number must lie in 1\.\.5, the context, not be {k}"):
        concatenated(torch.ones(1, 5, 3), k)
