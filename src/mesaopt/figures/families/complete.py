"""Complete Transformers, which read raw elements: what their first layer builds, and what the layers after it do with that."""

import dataclasses
from itertools import product

from mesaopt.figures import contents, controls
from mesaopt.figures import contents_complete as complete
from mesaopt.figures.families.shared import grid, lettered, probes
from mesaopt.figures.parts import Figure, Panel

HEADS = (1, 2, 3, 4)
FULL = (("linear/softmax-d7-long", "{label}, fully observed", ""), ("linear/hybrid-tokens", "{label}, fully observed", ""))
PARTIAL = (("partial/softmax-d7", "{label}, partially", "dashed"), ("partial/hybrid", "{label}, partially", "dashed"))
#: runs of the three sensitivity panels of the main task
FOLLOWED = {"softmax": ("Softmax-7", "softmax-d7"), "hybrid": ("Hybrid-mesa", "hybrid"), "full_mesa": ("Full-mesa", "full-mesa")}
WIDTHS = (5, 10, 15, 20, 30, 50)
#: numbers of concatenated observations that are tried
CONCATENATED = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)


def _tokens_and_features(first: str, second: str) -> tuple[Panel, ...]:
    """Token probes of four models under one letter, and feature probes of two under another, with their controls."""
    tokens = complete.token_probe(first, "tokens", "Elements in the first layer's output", (*FULL, *PARTIAL))
    features = complete.feature_probe(second, "features_softmax", "MLP*, Softmax-7", "nonlinear/softmax-d7")
    hybrid = complete.feature_probe("", "features_hybrid", "MLP*, Hybrid-mesa", "nonlinear/hybrid")
    beside = [control for pair in (tokens, features, hybrid) for control in controls.probe_controls(pair)]
    return (*tokens, *features, *hybrid, *beside)


def mesa_dataset() -> Figure:
    """Figure 4: which elements the first layer's output holds, what features of them, and where its attention rests."""
    attention = complete.attention_map("C", "linear/softmax-d7")
    lags = complete.attention_by_lag("linear/softmax-d7", (0, *HEADS))
    layout = (("tokens", "attention_mean"), ("features_softmax", "features_hybrid"))
    return Figure("Creating the mesa-dataset", (*_tokens_and_features("A", "B"), attention, lags), layout, 0.8)


def tokens_and_features() -> Figure:
    """Figure 2 of the second version: token probes of four models, and feature probes of two."""
    layout = (("tokens", "features_softmax", "features_hybrid"),)
    return Figure("What the layers of complete Transformers hold", _tokens_and_features("A", "B"), layout, 0.36)


def attention_and_weights() -> Figure:
    """Figure 3 of the second version: where the first layer looks, and the weights of one linear layer."""
    heads = [contents.weights("linear/lsa-d1-weights", contents.USED_SLOTS, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    attention = complete.attention_map("A", "linear/softmax-d7")
    left = attention.name
    names = [panel.name for panel in heads]
    layout = ((left, left, *names[:2]), (left, left, *names[2:]))
    lags = complete.attention_by_lag("linear/softmax-d7", (0, *HEADS))
    return Figure("Attention to neighbours, and one linear layer", (attention, *lettered(heads, "B"), lags), layout, 0.5)


def softmax() -> Figure:
    """Figure 6: probes of Softmax-7, and predictions of three and seven layers beside Proposition 2."""
    algorithms = ["linear/proposition2-2steps", "linear/proposition2"]
    curve = complete.predictions("C", "mse", "Prediction", ["linear/softmax-d3", "linear/softmax-d7"], algorithms)
    panels = (*probes("A", "B", "linear/softmax-d7"), curve, controls.on_test_batches(curve))
    return Figure("Softmax self-attention on raw elements", panels, (("target_probe", "preconditioning_probe", "mse"),), 0.36)


def models_by_task() -> Figure:
    """Figure 7: predictions of Softmax-7 and Hybrid-mesa beside Proposition 2 on three tasks."""
    titles = {"linear": "Fully observed", "partial": "Partially observed", "nonlinear": "Nonlinear"}
    features = [f"{task}/proposition2-{of}" for task in ("partial", "nonlinear") for of in ("linear", "nonlinear")]
    algorithms = {task: [name for name in features if name.startswith(f"{task}/")] for task in titles}
    algorithms["linear"] = ["linear/proposition2"]
    tops = {"linear": 0.1, "partial": None, "nonlinear": 0.1}
    curves = [
        complete.predictions(letter, f"mse_{task}", title, _models(task), algorithms[task], tops[task])
        for letter, (task, title) in zip("ABC", titles.items(), strict=True)
    ]
    name, title = "mse_nonlinear_published_hybrid", "Queries and values normalised"
    other = complete.predictions("", name, title, ["nonlinear/hybrid-published"], [])
    beside = (*map(controls.on_test_batches, curves), *_published_scalars(), dataclasses.replace(other, kind="table"))
    panels = (*curves, *beside)
    return Figure("Three tasks", panels, (tuple(panel.name for panel in curves),), 0.36)


def observations() -> Figure:
    """How many observations must be concatenated: Proposition 2 by their number, and two models beside it."""
    by_number = [f"partial/proposition2-searched-k{k}" for k in CONCATENATED]
    panel = complete.predictions("A", "mse_by_k", "Proposition 2, by number of observations", [], by_number)
    sources = (dataclasses.replace(source, series=str(k)) for source, k in zip(panel.sources, CONCATENATED, strict=True))
    numbers = dataclasses.replace(panel, kind="shades", sources=tuple(sources))
    models = complete.predictions("B", "mse", "Prediction", _models("partial"), ["partial/proposition2-nonlinear", "partial/lsq"])
    return Figure("Concatenated observations", (numbers, models), (("mse_by_k", "mse"),), 0.46)


def _models(task: str) -> list[str]:
    return [f"{task}/softmax-d7", f"{task}/hybrid"]


def _published_scalars() -> tuple[Panel, ...]:
    """The controls with one set of scalars for both inputs, as published; in the table alone."""
    found = []
    for task in ("partial", "nonlinear"):
        names = [f"{task}/proposition2-{of}-published" for of in ("linear", "nonlinear")]
        panel = complete.predictions("", f"mse_{task}_published_scalars", "One set of scalars", [], names)
        found.append(dataclasses.replace(panel, kind="table"))
    return tuple(found)


def weights_of_softmax() -> Figure:
    """Figure 10: all heads of blocks 2, 3 and 5 of Softmax-7, the first, second and fourth after the one that copies."""
    panels = [
        complete.whole_product("linear/softmax-d7", layer, head, name)
        for layer, name, head in product((2, 3, 5), ("QK", "OV"), HEADS)
    ]
    return Figure("Weight products of Softmax-7: layers 2, 3 and 5", tuple(panels), grid(panels, 4), 1.5, one_scale=True)


def _maps(run: str, title: str) -> Figure:
    maps = [complete.attention_map("", run, head) for head in HEADS]
    panels = (*lettered(maps, ""), complete.attention_by_lag(run, (0, *HEADS)))
    return Figure(title, panels, grid(maps, 4), 0.27)


def attention_of_softmax() -> Figure:
    """Figure 14: first-layer attention of Softmax-7, four heads."""
    return _maps("linear/softmax-d7", "First-layer attention of Softmax-7")


def attention_of_hybrid() -> Figure:
    """Figure 15: first-layer attention of Hybrid-mesa, four heads."""
    return _maps("linear/hybrid", "First-layer attention of Hybrid-mesa")


def _sensitivities(task: str, title: str, which: tuple[str, ...]) -> Figure:
    panels = [
        complete.sensitivity(letter, f"sensitivity_{key}", FOLLOWED[key][0], f"{task}/{FOLLOWED[key][1]}-sensitivity")
        for letter, key in zip("ABC", which, strict=False)
    ]
    beside = [controls.on_test_batches(panel) for panel in panels]
    return Figure(title, (*panels, *beside), (tuple(panel.name for panel in panels),), 0.36 if len(panels) == 3 else 0.46)


def sensitivity_linear() -> Figure:
    """Figure 16: what the first layer depends on along training, three models."""
    return _sensitivities("linear", "Sensitivity of the first layer", ("softmax", "hybrid", "full_mesa"))


def sensitivity_partial() -> Figure:
    """Figure 22: the same on partially observed systems."""
    return _sensitivities("partial", "Sensitivity of the first layer, partially observed systems", ("softmax", "hybrid"))


def sensitivity_nonlinear() -> Figure:
    """Figure 23: the same on nonlinear systems."""
    return _sensitivities("nonlinear", "Sensitivity of the first layer, nonlinear systems", ("softmax", "hybrid"))


def tokens_by_model() -> Figure:
    """Figure 17: which elements the first layer's output holds, by model, as error and as share of variance."""
    runs = {"softmax": "softmax-d7-long", "hybrid": "hybrid-tokens", "full_mesa": "full-mesa", "linear_mesa": "linear-mesa"}
    panels: list[Panel] = []
    for letter, (key, run) in zip("ABCD", runs.items(), strict=True):
        errors = complete.token_probe(letter, f"tokens_{key}", "", ((f"linear/{run}", "{label}", ""),))
        shares = complete.token_probe_r2("", f"r2_{key}", "", f"linear/{run}")
        panels += [*errors, *shares, *controls.probe_controls(errors)]
    layout = tuple(tuple(f"{row}_{key}" for key in runs) for row in ("tokens", "r2"))
    return Figure("Elements in the first layer's output", tuple(panels), layout, 0.66)


def tokens_by_width() -> Figure:
    """Figure 21: the same on partially observed systems, by the width of the embedding."""
    panels: list[Panel] = []
    for letter, (model, title) in zip("AB", {"softmax-d7": "Softmax-7", "hybrid": "Hybrid-mesa"}.items(), strict=True):
        runs = [(f"partial/{model}-w{width}", f"{width} channels", "") for width in WIDTHS]
        runs.append((f"partial/{model}", "80 channels (laptop: 40)", ""))
        errors = complete.token_probe(letter, f"tokens_{model.partition('-')[0]}", f"{title}, by width", runs, "shades")
        panels += [*errors, *controls.probe_controls(errors)]
    return Figure("Elements in the first layer's output, by width", tuple(panels), (("tokens_softmax", "tokens_hybrid"),), 0.46)


def softmax_partial() -> Figure:
    """Figure 24: figure 6 for partially observed systems."""
    return _softmax_on("partial", "Softmax-7, partially observed systems", "partial/proposition2-k16")


def softmax_nonlinear() -> Figure:
    """Figure 25: figure 6 for nonlinear systems."""
    return _softmax_on("nonlinear", "Softmax-7, nonlinear systems", "nonlinear/proposition2-nonlinear")


def _softmax_on(task: str, title: str, algorithm: str) -> Figure:
    run = f"{task}/softmax-d7"
    curve = complete.predictions("C", "mse", "Prediction", [run], [algorithm])
    panels = (*probes("A", "B", run), curve, controls.on_test_batches(curve))
    return Figure(title, panels, (("target_probe", "preconditioning_probe", "mse"),), 0.36)
