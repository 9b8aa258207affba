"""Products of weights against loops, models made of products against the Transformer, planted structure read back."""

import numpy as np
import pandas as pd
import pytest
import torch
from stage_files import MODELS, N, observations, trained, transformer

from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.constructions import proposition_1
from mesaopt.models.products import ProductModel, Products, attention, average, compress, layer_products
from mesaopt.models.transformer import initialise
from mesaopt.models.weights import load_weights, save_weights
from mesaopt.spec.run import Model
from mesaopt.stages.extract import block_structure, eta_of_all_slots, extract_run, implied_eta, joint_block_energy, sparsity
from mesaopt.store.tables import read_table

DIAGONAL = torch.eye(N, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product_model(kind, seed=1):
    weights = {name: tensor.double() for name, tensor in transformer(kind, seed).seed_weights(0).items()}
    return ProductModel.from_weights(weights, MODELS[kind], N)


def test_products_are_key_by_query_and_output_by_input():
    weights = transformer("linear").seed_weights(0)
    for i, layer in enumerate(layer_products(weights, 2)):
        for h in range(2):
            W = {name: weights[f"layers.{i}.{name}"][h].numpy() for name in ("W_Q", "W_K", "W_V", "W_O")}
            a, b = np.random.default_rng(i + h).standard_normal((2, 4 * N)).astype(np.float32)
            # a as key, b as query: their score; b's contribution as a value
            assert a @ layer.QK[h].numpy() @ b == pytest.approx((W["W_K"] @ a) @ (W["W_Q"] @ b), rel=1e-4)
            np.testing.assert_allclose(layer.OV[h].numpy() @ b, W["W_O"] @ (W["W_V"] @ b), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "bare"])
def test_product_model_equals_the_transformer(kind):
    inputs, model = observations(4)[:, :-1], transformer(kind).double()
    exact = model(tokenise(inputs, MODELS[kind].tokens)[None])[0]
    predicted = product_model(kind)(inputs)
    if MODELS[kind].clip == 0.9:
        assert (predicted.abs() == 0.9).any(), "the clip must be part of what is compared"
    torch.testing.assert_close(predicted, exact.detach(), rtol=0, atol=1e-10)


def test_attention_of_products_equals_the_double_sum():
    e, layer = random(2, 5, 4), Products(random(3, 4, 4, seed=1), random(3, 4, 4, seed=2))
    expected = torch.zeros_like(e)
    for b, t, h in np.ndindex(2, 5, 3):
        for past in range(t + 1):
            expected[b, t] += layer.OV[h] @ e[b, past] * (e[b, past] @ layer.QK[h] @ e[b, t])
    torch.testing.assert_close(attention(e, layer), expected, rtol=0, atol=1e-12)


def test_compression_keeps_the_mean_of_every_block_diagonal():
    product = random(2, 2 * N, 3 * N)
    compressed = compress(product, N)
    for h, i, j in np.ndindex(2, 2, 3):
        rows, cols = slice(i * N, (i + 1) * N), slice(j * N, (j + 1) * N)
        torch.testing.assert_close(compressed[h, rows, cols], product[h, rows, cols].trace() / N * DIAGONAL, rtol=0, atol=1e-12)
    torch.testing.assert_close(compress(compressed, N), compressed)
    with pytest.raises(InputError, match="no blocks of 4 x 4"):
        compress(product, 4)


def test_a_compressed_model_has_sixteen_numbers_per_product():
    for layer in product_model("linear").compress().layers:
        for product in (*layer.QK, *layer.OV):
            assert len(product.unique()) <= 17  # and zero


def test_the_average_of_products_is_half_way_and_of_equals_nothing_new():
    a, b = product_model("linear", 1), product_model("linear", 2)
    half = average(a, b)
    torch.testing.assert_close(half.layers[1].OV, 0.5 * a.layers[1].OV + 0.5 * b.layers[1].OV)
    inputs = observations(3)[:, :-1]
    torch.testing.assert_close(average(a, a)(inputs), a(inputs))
    with pytest.raises(InputError, match="same layers"):
        average(a, product_model("bare"))


@pytest.mark.parametrize("kind", ["mesa", "raw"])
def test_models_that_products_do_not_determine_are_refused(kind):
    with pytest.raises(InputError, match="linear layers on constructed tokens"):
        product_model(kind)


def test_sparsity_of_known_shares():
    product = torch.tensor([[10.0, 0.6, 0.05], [-1.1, 0.0, 0.2]]).double()
    found = sparsity(product)
    assert found["max_abs"] == 10.0
    assert found["norm"] == pytest.approx(product.norm().item())
    assert (found["above_1pct"], found["above_5pct"], found["above_10pct"]) == pytest.approx((4 / 6, 3 / 6, 2 / 6))
    assert (found["negligible_1pct"], found["negligible_5pct"], found["negligible_10pct"]) == pytest.approx((2 / 6, 3 / 6, 4 / 6))
    assert found["entries_90pct_energy"] == pytest.approx(1 / 6)


def test_entries_that_hold_the_energy_are_counted_to_the_last():
    assert sparsity(torch.ones(2, 5))["entries_90pct_energy"] == pytest.approx(0.9)
    assert sparsity(torch.zeros(2, 2))["entries_90pct_energy"] == 0.0


def test_planted_blocks_are_found_and_noise_lowers_their_strength():
    means = torch.tensor([[0.0, 2.0], [-3.0, 0.5]]).double()
    planted = torch.kron(means, DIAGONAL)
    exact = block_structure(planted, N)
    assert exact["block_energy"] == pytest.approx(1.0)
    assert [exact[f"diag_mean_{i}_{j}"] for i in (1, 2) for j in (1, 2)] == pytest.approx([0.0, 2.0, -3.0, 0.5])
    noisy = block_structure(planted + 0.1 * random(2 * N, 2 * N), N)
    assert 0.9 < noisy["block_energy"] < 1.0
    assert 15 < noisy["block_strength"] < 60  # 3 over a standard deviation of about 0.1
    pure_noise = block_structure(random(20 * N, 20 * N), N)
    assert pure_noise["block_energy"] == pytest.approx(1 / N**2, rel=0.5)


def test_what_heads_compute_together_equals_the_whole_sum():
    layer = Products(random(3, 4 * N, 4 * N, seed=1), random(3, 4 * N, 4 * N, seed=2))
    whole, kept = (
        torch.einsum("hij,hkl->ijkl", ov, qk) for qk, ov in ((layer.QK, layer.OV), (compress(layer.QK, N), compress(layer.OV, N)))
    )
    expected = (kept.square().sum() / whole.square().sum()).item()
    assert joint_block_energy(layer, N) == pytest.approx(expected, rel=1e-10)


def test_what_one_head_has_and_another_undoes_does_not_count():
    """Two heads of opposite keys share a clean step; the noise that both values have cancels. Of one head alone it counts."""
    step, key = torch.kron(random(4, 4), DIAGONAL), torch.kron(random(4, 4, seed=1), DIAGONAL)
    noise = random(4 * N, 4 * N, seed=2)
    pair = Products(torch.stack([key, -key]), torch.stack([step + noise, -step + noise]))
    assert joint_block_energy(pair, N) == pytest.approx(1, abs=1e-12)
    assert block_structure(pair.OV[0], N)["block_energy"] < 0.9
    alone = Products(pair.QK[:1], pair.OV[:1])
    assert joint_block_energy(alone, N) == pytest.approx(block_structure(pair.OV[0], N)["block_energy"])
    assert joint_block_energy(Products(0 * pair.QK, pair.OV), N) == 0


def test_deviations_within_blocks_equal_those_of_numpy():
    product = random(2 * N, 2 * N)
    found, block = block_structure(product, N), product[N:, :N].numpy()
    assert found["diag_std_2_1"] == pytest.approx(np.diag(block).std())
    assert found["offdiag_std_2_1"] == pytest.approx(block[~np.eye(N, dtype=bool)].std())


@pytest.mark.parametrize("tokens, slots", [("constructed_bare", [2]), ("constructed", [1, 2])])
def test_the_learning_rate_of_a_planted_gradient_step_is_read_back(tokens, slots):
    qk, ov = torch.zeros(2, 4, 4).double(), torch.zeros(2, 4, 4).double()
    for head, (key_query, value) in enumerate([(0.2, 0.5), (-0.4, -0.1)]):
        qk[head, 3, slots[-1]], ov[head, 0, slots[0]] = key_query, value
    layer = Products(torch.kron(qk, DIAGONAL), torch.kron(ov, DIAGONAL))
    eta = implied_eta(layer, N, tokens)
    assert eta == pytest.approx(0.2 * 0.5 + 0.4 * 0.1)
    # and it is that step: predictions equal eta times the sum of pairs
    inputs = observations(2)[:, :-1]
    model = ProductModel((layer,), N, tokens, None)
    sums = torch.stack([inputs[:, 1 : t + 1].mT @ inputs[:, :t] @ inputs[:, t, :, None] for t in range(1, 8)], dim=1)
    torch.testing.assert_close(model(inputs)[:, 1:], eta * sums[..., 0], rtol=0, atol=1e-12)


def test_tables_hold_every_entry_with_layers_and_heads_from_one(tmp_path):
    weights = trained(tmp_path, "linear")
    extract_run(weights, tmp_path / "weights.parquet", tmp_path / "structure.parquet")
    table, width = read_table(tmp_path / "weights.parquet", "weights"), 4 * N
    assert len(table) == 2 * 2 * 2 * width**2
    chosen = table[(table["layer"] == 2) & (table["head"] == 1) & (table["product"] == "OV")]
    expected = layer_products(load_weights(weights), 2)[1].OV[0].numpy()
    np.testing.assert_allclose(chosen.pivot(index="row", columns="col", values="value").to_numpy(), expected, rtol=1e-6)
    structure = read_table(tmp_path / "structure.parquet", "structure")
    of_one_head = structure[structure["statistic"] != "joint_block_energy"]
    assert set(structure["product"]) == {"QK", "OV"} and set(of_one_head["head"]) == {1, 2}
    assert "eta" not in set(structure["statistic"]), "two layers are no single gradient step"


def test_statistics_stand_beside_those_of_the_same_model_untrained(tmp_path):
    weights = trained(tmp_path, "linear", seed=11)
    initial = load_weights(weights)
    save_weights({name: 2 * tensor for name, tensor in initial.items()}, weights)  # as if training had doubled every weight
    extract_run(weights, tmp_path / "weights.parquet", tmp_path / "structure.parquet")
    table = read_table(tmp_path / "structure.parquet", "structure")
    by_model = table.set_index(["layer", "head", "product", "statistic", "model"])["value"].unstack()
    scaled = by_model[by_model.index.get_level_values("statistic").isin(["norm", "max_abs", "diag_mean_4_2"])]
    np.testing.assert_allclose(scaled["trained"], 4 * scaled["untrained"], rtol=1e-5)
    for layer, products in enumerate(layer_products(initial, 2), 1):
        for head in (1, 2):
            expected = block_structure(products.QK[head - 1], N)["block_strength"]
            assert by_model.loc[(layer, head, "QK", "block_strength"), "untrained"] == pytest.approx(expected)


@pytest.mark.parametrize("product", ["QK", "OV"])
def test_the_block_structure_of_an_untrained_model_is_chance(product):
    """Entries are independent of their place: a diagonal's mean over n entries varies n times less in square than an entry."""
    model, n = Model(("linear",) * 6, "constructed", 40, n_heads=4, d_head=20, init_std=0.0002), 10
    layers = layer_products(initialise(model, n, [1]).seed_weights(0), 6)
    found = pd.DataFrame([block_structure(one, n) for layer in layers for one in getattr(layer, product)])
    rng = np.random.default_rng(0)
    chance = np.abs(rng.normal(size=(10_000, 16))).max(axis=1).mean() / np.sqrt(n)
    assert found["block_strength"].mean() == pytest.approx(chance, rel=0.15)
    assert found["block_energy"].mean() == pytest.approx(1 / n**2, rel=0.15)


def test_the_learning_rate_is_read_off_the_construction_of_proposition_1():
    """Its tokens have three slots, those of a model four: the second one stays empty."""
    construction = proposition_1(0.032, 0.0, N)
    (layer,) = layer_products({name: tensor[None][0] for name, tensor in construction.weights.items()}, 1)
    widened = Products(*(_with_an_empty_slot(product) for product in (layer.QK, layer.OV)))
    assert implied_eta(widened, N, "constructed_bare") == pytest.approx(0.032, rel=1e-12)
    assert eta_of_all_slots(widened, N, "constructed_bare") == pytest.approx(0.032, rel=1e-12)


def test_the_rate_of_all_slots_is_what_sequences_at_rest_see():
    """Random multiples of the identity: with s_t = s_1 for all t, each token but the first adds rate * s_1 (s_1 . s_1)."""
    layer = Products(*(torch.kron(random(2, 4, 4, seed=seed), DIAGONAL) for seed in (1, 2)))
    inputs = observations(1)[:, :1].repeat(1, 400, 1)
    predicted = ProductModel((layer,), N, "constructed", None)(inputs)[0, -1]
    rate = eta_of_all_slots(layer, N, "constructed")
    expected = rate * 400 * inputs[0, 0] * inputs[0, 0].square().sum()
    torch.testing.assert_close(predicted, expected, rtol=0.05, atol=0)


def _with_an_empty_slot(product):
    used = torch.cat([torch.arange(N), torch.arange(2 * N, 4 * N)])
    widened = product.new_zeros(len(product), 4 * N, 4 * N)
    widened[:, used[:, None], used] = product
    return widened


def test_only_linear_layers_have_what_their_heads_compute_together(tmp_path):
    for kind, expected in (("linear", [1, 2]), ("mesa", []), ("raw", [])):
        extract_run(trained(tmp_path / kind, kind), tmp_path / "weights.parquet", tmp_path / "structure.parquet")
        rows = read_table(tmp_path / "structure.parquet", "structure").query("statistic == 'joint_block_energy'")
        assert rows.loc[rows["model"] == "trained", "layer"].tolist() == expected and set(rows["head"]) <= {0}


def test_eta_and_lam_are_in_the_tables_of_the_models_that_have_them(tmp_path):
    rows = {}
    for kind in ("bare", "mesa"):
        extract_run(trained(tmp_path / kind, kind), tmp_path / "weights.parquet", tmp_path / "structure.parquet")
        table = read_table(tmp_path / "structure.parquet", "structure")
        rows[kind] = {name: part["value"].tolist() for name, part in table[table["model"] == "trained"].groupby("statistic")}
    assert rows["mesa"]["lam"] == [1.0, 1.0] and "eta" not in rows["mesa"]
    assert rows["bare"]["eta"] == pytest.approx([implied_eta(product_model("bare").layers[0], N, "constructed_bare")], rel=1e-5)


def test_raw_token_models_have_products_but_no_blocks(tmp_path):
    extract_run(trained(tmp_path, "raw"), tmp_path / "weights.parquet", tmp_path / "structure.parquet")
    statistics = set(read_table(tmp_path / "structure.parquet", "structure")["statistic"])
    assert "above_5pct" in statistics and not any(name.startswith(("block", "diag")) for name in statistics)


def test_products_of_raw_token_models_are_whole_and_the_first_ones_have_the_positions_too(tmp_path):
    weights = load_weights(trained(tmp_path, "raw"))
    extract_run(tmp_path / "weights.safetensors", tmp_path / "weights.parquet", tmp_path / "structure.parquet")
    table = read_table(tmp_path / "weights.parquet", "weights")
    for layer, width in ((1, 6 + 4), (2, 6)):
        W_K, W_Q, W_V, W_O = (weights[f"layers.{layer - 1}.{name}"] for name in ("W_K", "W_Q", "W_V", "W_O"))
        for head in (1, 2):
            for name, expected in (("QK", W_K[head - 1].mT @ W_Q[head - 1]), ("OV", W_O[head - 1] @ W_V[head - 1])):
                rows = table.query(f"layer == {layer} and head == {head} and product == {name!r}")
                found = rows.pivot(index="row", columns="col", values="value").to_numpy()
                assert found.shape == ((width, width) if name == "QK" else (6, 6))
                np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-7)


def test_weights_of_another_model_are_refused(tmp_path):
    weights = trained(tmp_path, "linear")
    content = load_weights(weights)
    del content["layers.1.W_V"]
    save_weights(content, weights)
    with pytest.raises(InputError, match=r"weights\.safetensors: .*layers\.1\.W_V"):
        extract_run(weights, tmp_path / "weights.parquet", tmp_path / "structure.parquet")
    assert not (tmp_path / "weights.parquet").exists()
