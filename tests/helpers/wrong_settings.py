"""Wrong settings, and what the one line must say about each."""

from pathlib import Path
from typing import Any

from mesaopt.spec.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]
FILES = {name: read_yaml(ROOT / f"config/{name}.yaml") for name in ("config", "experiments", "scales")}
DEEP, GD, PARTIAL = "linear/lsa-d6", "linear/gd1", "partial/proposition2-nonlinear"


def training(**values: Any) -> dict[str, Any]:
    return {"runs": {DEEP: {"training": values}}}


def model(**values: Any) -> dict[str, Any]:
    return {"runs": {DEEP: {"model": values}}}


#: what is set in config.yaml, and what the one line must say
WRONG = {
    "seeds: one": ({"seeds": 1}, "config: seeds: 1 is no list: write seeds=[1]"),
    "seeds: with commas": ({"seeds": "1,11"}, "config: seeds: '1,11' is no list: write seeds=[1,11]"),
    "sweep: one value": (
        {"sweep": {"run": DEEP, "over": {"lr": 1e-4}}},
        "config: sweep: over: lr: 0.0001 is no list: write [0.0001]",
    ),
    "seeds: a fraction": ({"seeds": [1.0]}, "config: seeds: 1.0 is not of type 'integer'"),
    "seeds: true": ({"seeds": [True]}, "config: seeds"),
    "seeds: too large": ({"seeds": [2**32]}, "config: seeds"),
    "seeds: a date": ({"seeds": "2024-01-01"}, "config: seeds"),
    "formats: none": ({"formats": []}, "config: formats"),
    "formats: text": ({"formats": "pdf"}, "config: formats: 'pdf' is no list: write formats=[pdf]"),
    "formats: twice": ({"formats": ["pdf", "pdf"]}, "config: formats"),
    "pack: a fraction": ({"pack": 2.0}, "config: pack: 2.0 is not of type 'integer'"),
    "pack: true": ({"pack": True}, "config: pack"),
    "checkpoints: negative": ({"checkpoint_every": -1}, "config: checkpoint_every"),
    "checkpoints: never": ({"checkpoint_every": float("inf")}, "config: checkpoint_every: must be a finite number, not inf"),
    "checkpoints: not a number": ({"checkpoint_every": "often"}, "config: checkpoint_every"),
    "container: with a blank": ({"container": "my image.sif"}, "config: container: 'my image.sif' does not match"),
    "container: with a wildcard": ({"container": "{run}.sif"}, "config: container: '{run}.sif' does not match"),
    "container: a command": ({"container": "$(x).sif"}, "config: container: '$(x).sif' does not match"),
    "container: a number": ({"container": 5}, "config: container: 5 is not of type 'string'"),
    "runs: a list": ({"runs": [DEEP]}, "config: runs"),
    "runs: empty": ({"runs": None}, "config: runs"),
    "runs: a number as name": ({"runs": {5: {}}}, "config: runs: 5 is not of type 'string'"),
    "runs: training is a number": ({"runs": {DEEP: {"training": 5}}}, f"config: runs: {DEEP}: training"),
    "runs: task changed": ({"runs": {DEEP: {"task": "linear"}}}, "unknown key 'task'"),
    "theory: a list": ({"theory": [GD]}, "config: theory"),
    "theory: unknown": ({"theory": {"linear/gd2": {"lr": 1.0}}}, "unknown name 'linear/gd2': did you mean"),
    "theory: unknown form": ({"theory": {GD: {"form": "mine"}}}, "unknown form 'mine'"),
    "theory: unknown lag": ({"theory": {GD: {"lag": 2}}}, "lag must be 0 or 1, not 2"),
    "theory: unknown input": ({"theory": {PARTIAL: {"input": "token"}}}, "unknown input 'token': observations, concatenated or"),
    "theory: gd on features": ({"theory": {GD: {"input": "features"}}}, "gd reads observations, not features"),
    "theory: a longer k than the context": ({"theory": {PARTIAL: {"k": 51}}}, "k must lie in 1..50, the context, not be 51"),
    "theory: no k": ({"theory": {PARTIAL: {"k": 0}}}, "k must lie in 1..50, the context, not be 0"),
    "theory: k of raw observations": ({"theory": {"linear/proposition2": {"k": 2}}}, "k is for input concatenated"),
    "theory: key misspelt": ({"theory": {PARTIAL: {"serch_values": 3}}}, "unknown key 'serch_values'"),
    "theory: searched and fixed": ({"theory": {PARTIAL: {"fixed_inverse_lam": 1}}}, "contradicts search_values"),
    "theory: search upside down": ({"theory": {PARTIAL: {"search_low": 99}}}, "search_low 99.0 must be positive and below"),
    "theory: fewer than no values": ({"theory": {PARTIAL: {"search_values": -1}}}, "search_values must not be negative, not -1"),
    "theory: fixed at nothing": (
        {"theory": {PARTIAL: {"search_values": 0, "fixed_inverse_lam": 0}}},
        "fixed_inverse_lam must be positive",
    ),
    "theory: scalars of nobody": ({"theory": {PARTIAL: {"scalars": "partial/x"}}}, "unknown theory entry in scalars of"),
    "theory: scalars of other steps": (
        {"theory": {PARTIAL: {"scalars": "linear/proposition2-2steps"}}},
        "scalars: linear/proposition2-2steps learns no 6 pairs of the textbook form",
    ),
    "theory: scalars of itself": ({"theory": {PARTIAL: {"scalars": PARTIAL}}}, f"scalars: {PARTIAL} learns no 6 pairs"),
    "theory: scalars for gd": ({"theory": {GD: {"scalars": PARTIAL}}}, "scalars are for chebyshev"),
    "theory: lsq that learns": ({"theory": {"linear/lsq": {"lr": 0.1}}}, "lsq learns nothing: no steps, no lr"),
    "theory: no steps": ({"theory": {PARTIAL: {"steps": 0}}}, "steps must be at least 1 and lr positive"),
    "theory: lr infinite": ({"theory": {GD: {"lr": float("inf")}}}, f"config: theory: {GD}: lr: must be a finite number"),
    "lr: misspelt": (training(lrr=1), f"{DEEP}: training: unknown key 'lrr': did you mean 'lr'?"),
    "lr: infinite": (training(lr=float("inf")), f"config: runs: {DEEP}: training: lr: must be a finite number, not inf"),
    "lr: not a number": (training(lr=float("nan")), "lr: must be a finite number, not nan"),
    "lr: zero": (training(lr=0.0), "lr must be positive, not 0.0"),
    "lr: empty": (training(lr=None), "lr must be float, not None"),
    "batch: true": (training(batch=True), "batch must be int, not True"),
    "steps: a mapping": (training(steps={6: 10}), "steps must be int"),
    "weight decay: negative": (training(weight_decay=-0.1), "weight_decay must not be negative, not -0.1"),
    "layers: text": (model(layers="linear"), "layers must be a list of names"),
    "layers: none": (model(layers=[]), "a model needs at least one layer"),
    "clip: zero": (model(clip=0), "clip must be positive or null, not 0"),
    "tokens: unknown": (model(tokens="cooked"), "unknown tokens 'cooked'"),
    "style: a list": ({"style": ["band"]}, "config: style"),
    "style: text for a number": ({"style": {"width": "wide"}}, "style: width must be a number from 2.0 to 40.0, not 'wide'"),
    "style: a fraction of a dot": ({"style": {"dpi": 200.5}}, "style: dpi must be a whole number"),
    "style: text for a switch": ({"style": {"band": "yes"}}, "style: band must be true or false"),
    # contradictions between keys
    "horizon within the warm-up": (training(warmup=100, horizon=50), "horizon 50 must exceed warmup 100"),
    "cosine within the warm-up": (training(warmup=900, steps=800, final_lr=1e-5), "warmup 900 contradicts steps 800"),
    "theory within its warm-up": ({"theory": {GD: {"steps": 5, "warmup": 9}}}, "warmup 9 contradicts steps 5"),
    "gradient descent with Chebyshev steps": ({"theory": {GD: {"n_steps": 3}}}, "n_steps is for chebyshev"),
    "positions on constructed tokens": (model(d_pe=4), "positional encoding (d_pe) is for raw tokens only"),
    "training on the test sequences": (training(stream="test"), "stream must not be test"),
    "CPU kernel on a GPU": ({"device": "cuda", "backend": "native"}, "backend native computes on a CPU, device is cuda"),
    "GPU kernel on a CPU": ({"device": "cpu", "backend": "cuda"}, "config: backend cuda computes on a GPU, device is cpu"),
    "compressed run of another width": (
        {"runs": {"linear/lsa-d6-second": {"model": {"d_head": 20}}}},
        "linear/lsa-d6-second and linear/lsa-d6-extract must have one task and one model",
    ),
    # what would leave the results folder or end up in a shell
    "scale: a path": ({"scale": "../paper"}, "'../paper' is not one of"),
    "run: a path upwards": ({"runs": {"../x": {}}}, "unknown name '../x'"),
    "run: an absolute path": ({"runs": {"/etc/passwd": {}}}, "unknown name '/etc/passwd'"),
    "run: a command": ({"runs": {"$(touch x)": {}}}, "unknown name '$(touch x)'"),
    "stream: a path": (training(stream="../x"), "stream must be a plain name, not '../x'"),
    "stream: a command": (training(stream="a; touch x"), "stream must be a plain name"),
    "format: a path": ({"formats": ["../pdf"]}, "'../pdf' is not one of"),
    "probe form: another word": ({"style": {"probe_form": "text"}}, "probe_form must be one of published, textbook"),
    "probe split: a path": ({"style": {"probe_split": "../x"}}, "probe_split must be one of in_sample, held_out"),
}

SPEC = FILES["experiments"]["runs"]["linear/lsa-d1"]
FOLLOWED = {"linear/lsa-d6-second": "../x"}
#: (file, place in it, what stands there instead, what the one line must say)
PLANTED = {
    "run named upwards": ("experiments", ("runs", "../x"), SPEC, "experiment name '../x': must be task/name"),
    "run named deep upwards": ("experiments", ("runs", "linear/../../x"), SPEC, "'linear/../../x': must be task/name"),
    "run named absolutely": ("experiments", ("runs", "/tmp/x"), SPEC, "experiment name '/tmp/x'"),
    "run named as a command": ("experiments", ("runs", "linear/$(x)"), SPEC, "experiment name 'linear/$(x)'"),
    "run named with a blank": ("experiments", ("runs", "linear/a b"), SPEC, "experiment name 'linear/a b'"),
    "run named with a new line": ("experiments", ("runs", "linear/a\n"), SPEC, "experiment name 'linear/a\\n'"),
    "run of another task": ("experiments", ("runs", "contracting/x"), SPEC, "its name must begin with linear/"),
    "run twice": ("experiments", ("runs", "linear/lsa-d6"), SPEC, "experiment 'linear/lsa-d6' is defined twice"),
    "run that is empty": ("experiments", ("runs", "linear/x"), None, "experiments.yaml: runs: linear/x"),
    "run without training": (
        "experiments",
        ("runs", DEEP.replace("6", "{depth}"), "training"),
        "off",
        "training: 'off' is not of",
    ),
    "algorithm named upwards": ("experiments", ("theory", "../x"), FILES["experiments"]["theory"][GD], "name '../x'"),
    "task named upwards": ("experiments", ("tasks", "../x"), {"n_obs": 3}, "task name '../x': must be"),
    "interpolation upwards": ("experiments", ("interpolations",), FOLLOWED, "unknown run in interpolations '../x'"),
    "split as a command": ("experiments", ("sequences", "$(x)"), 5, "experiments.yaml: sequences: unknown key '$(x)'"),
    "split without sequences": ("experiments", ("sequences", "evaluation"), 0, "experiments.yaml: sequences: evaluation"),
    "depth in words": ("experiments", ("runs", DEEP.replace("6", "{depth}"), "depth"), "six", "depth: 'six' is not"),
    "depth zero": ("experiments", ("runs", DEEP.replace("6", "{depth}"), "depth"), 0, "0 is less than the minimum of 1"),
    "depth without steps": ("experiments", ("runs", DEEP.replace("6", "{depth}"), "depth"), [9], "has no value for depth 9"),
    "panel of no figure": (
        "experiments",
        ("runs", "linear/lsa-d1", "panels"),
        ["ext/layer/mse"],
        "experiments.yaml: linear/lsa-d1: panels: ext/layer/mse: unknown figure 'ext/layer': did you mean 'ext/layers'?",
    ),
    "panel that the figure lacks": (
        "experiments",
        ("runs", "linear/lsa-d1", "panels"),
        ["ext/layers/mze"],
        "linear/lsa-d1: panels: unknown panel 'ext/layers/mze': did you mean 'ext/layers/mse'?",
    ),
    "scale of its own": ("scales", ("huge",), {"seeds": [1]}, "scales.yaml: unknown key 'huge'"),
    "scale without seeds": ("scales", ("smoke",), {}, "scales.yaml: smoke: 'seeds' is a required property"),
    "scale that is empty": ("scales", ("smoke",), None, "scales.yaml: smoke"),
    "scale with an unknown split": ("scales", ("smoke", "sequences", "../x"), 5, "sequences: unknown key '../x'"),
}
