"""Heads of two models matched: symmetries are undone exactly, and the best order is the best of all."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mesaopt.errors import InputError
from mesaopt.models.matching import MOST_HEADS, Match, best_order, distances, inner, match, matched, swap
from mesaopt.models.products import ProductModel, Products, average

N = 3


def model(seed: int, heads: int = 4, layers: int = 3, tokens: str = "constructed") -> ProductModel:
    rng = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(2, heads, 4 * N, 4 * N, generator=rng, dtype=torch.float64) * 0.1 for _ in range(layers)]
    return ProductModel(tuple(Products(qk, ov) for qk, ov in drawn), N, tokens, 4.0)


def shuffled(one: ProductModel, seed: int) -> ProductModel:
    """The same function: heads in another order, some with both signs turned, slots 2 and 3 exchanged."""
    rng = torch.Generator().manual_seed(seed)
    layers = []
    for layer in swap(one).layers:
        order = torch.randperm(len(layer.QK), generator=rng)
        sign = torch.randint(0, 2, (len(layer.QK), 1, 1), generator=rng, dtype=torch.float64) * 2 - 1
        layers.append(Products(sign * layer.QK[order], sign * layer.OV[order]))
    return replace(one, layers=tuple(layers))


def same(a: ProductModel, b: ProductModel) -> bool:
    pairs = zip(a.layers, b.layers, strict=True)
    return all(torch.allclose(x.QK, y.QK) and torch.allclose(x.OV, y.OV) for x, y in pairs)


@pytest.mark.parametrize("seed", range(4))
def test_what_changes_no_prediction_is_undone(seed: int) -> None:
    one, inputs = model(seed), torch.randn(5, 7, N, dtype=torch.float64)
    other = shuffled(one, seed + 10)
    torch.testing.assert_close(other(inputs), one(inputs))
    found = match(one, other)
    assert found.swapped and same(matched(other, found), one)
    torch.testing.assert_close(average(one, matched(other, found))(inputs), one(inputs))
    assert not torch.allclose(average(one, other)(inputs), one(inputs), atol=1e-3), "as heads stand, the average is another model"


def test_a_model_matches_itself_as_it_stands() -> None:
    one = model(1)
    assert match(one, one) == Match.none(one) and same(matched(one, Match.none(one)), one)
    assert [value for _, _, value in distances(one, one)] == [0.0] * 12


def test_bare_tokens_have_no_copies_to_exchange() -> None:
    assert not match(model(1, tokens="constructed_bare"), swap(model(1, tokens="constructed_bare"))).swapped


def test_the_inner_product_is_that_of_what_heads_add_as_tensors() -> None:
    a, b = (model(seed, heads=2, layers=1).layers[0] for seed in (1, 2))
    for i in range(2):
        for j in range(2):
            first, second = (torch.einsum("oi,kq->oikq", one.OV[h], one.QK[h]) for one, h in ((a, i), (b, j)))
            torch.testing.assert_close(inner(a, b)[i, j], (first * second).sum())


@pytest.mark.parametrize("heads", [1, 2, 4, 6])
def test_the_best_order_is_that_of_all_and_of_scipy(heads: int) -> None:
    gain = torch.randn(heads, heads, generator=torch.Generator().manual_seed(heads), dtype=torch.float64)
    order = best_order(gain)
    assert sorted(order) == list(range(heads))
    best = max(sum(gain[i, p[i]].item() for i in range(heads)) for p in permutations(range(heads)))
    assert sum(gain[i, order[i]].item() for i in range(heads)) == best
    assert list(order) == linear_sum_assignment(gain.numpy(), maximize=True)[1].tolist()


def test_distances_are_0_for_the_same_2_for_the_opposite_and_about_1_41_for_the_unrelated() -> None:
    one = model(3)
    turned = replace(one, layers=tuple(Products(-layer.QK, -layer.OV) for layer in one.layers))
    assert [value for _, _, value in distances(one, turned)] == pytest.approx([2.0] * 12)
    unrelated = [value for _, _, value in distances(one, model(4))]
    assert sum(unrelated) / 12 == pytest.approx(2**0.5, abs=0.05)
    assert [(layer, head) for layer, head, _ in distances(one, one)][:5] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]


def test_models_that_cannot_be_matched_are_one_line() -> None:
    with pytest.raises(InputError, match="only models with the same layers, heads and channels can be matched"):
        match(model(1), model(1, layers=2))
    with pytest.raises(InputError, match=f"at most {MOST_HEADS}, not 9"):
        match(model(1, heads=9), model(2, heads=9))
