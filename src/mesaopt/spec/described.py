"""What every setting means, in which unit, and where the paper speaks of it: the tables of config/README.md are made from this.

By class and field of what `experiments.yaml` and `style` are read into; defaults and types are those of the fields themselves. A
test finds a field that nothing is said about.
"""

from mesaopt.spec.described_language import DESCRIBED_LANGUAGE
from mesaopt.spec.meaning import Meaning
from mesaopt.spec.meaning import file_in as _file_in

_TASKS, _MODELS = "next-token prediction tasks", "linear self-attention"
_DETAILS, _CONSTRUCTION = "experimental details", "construction of one gradient step"
_PRECONDITIONING, _PROBING = "multi-layer Transformers", "linear probing"

TASK = {
    "name": Meaning("what the task is called; the key of its entry", "", _TASKS),
    "n_state": Meaning("dimension of the hidden state", "channels", _TASKS),
    "n_obs": Meaning("dimension of what is observed", "channels", _TASKS),
    "context_length": Meaning("T: inputs s_1..s_T, targets s_2..s_{T+1}", "positions", _TASKS),
    "kind": Meaning(
        "which systems are drawn: " + _file_in("task kind") + "; without it the kind that the task is named after", "", _TASKS
    ),
    "state_noise": Meaning("standard deviation of the noise of a step; `null`: that of the kind", "as the state", _TASKS),
    "obs_noise": Meaning("standard deviation of the noise of an observation; `null`: that of the kind", "as the state", _TASKS),
    "teacher": Meaning("number of the one system of kind `other_teacher`; 0 is that of `fixed_teacher`", "", _TASKS),
}

MODEL = {
    "layers": Meaning("kind of every attention layer: " + _file_in("layer"), "", f"{_MODELS}; mesa-layer"),
    "tokens": Meaning(
        "`raw`: s_t; `constructed`: (0, s_t, s_t, s_{t-1}); `constructed_bare`: (0, 0, s_t, s_{t-1}), for one-layer models",
        "",
        _CONSTRUCTION,
    ),
    "d_model": Meaning("width of the residual stream", "channels", _MODELS),
    "n_heads": Meaning("heads of every layer", "heads", _MODELS),
    "d_head": Meaning("width of a head's queries, keys and values", "channels", _MODELS),
    "init_std": Meaning("standard deviation of the initial weights", "", _DETAILS),
    "clip": Meaning("the residual stream is clipped to [-clip, clip] after every layer; `null`: not at all", "", _DETAILS),
    "d_pe": Meaning(
        "width of the sinusoidal positions that the first layer's queries and keys see beside raw tokens; 0: none",
        "channels",
        _DETAILS,
    ),
    "d_mlp": Meaning("hidden width of the MLP after each attention layer; 0: none", "channels", _DETAILS),
    "normalise": Meaning("`none`, `qk` or `qv`: what is divided by its norm, in all layers but the first", "", _DETAILS),
}

TRAINING = {
    "lr": Meaning("learning rate after the linear warm-up from 0", "", _DETAILS),
    "steps": Meaning("number of steps", "steps", _DETAILS),
    "batch": Meaning("fresh sequences per step", "sequences", _DETAILS),
    "weight_decay": Meaning("of AdamW (0.9, 0.999, 1e-8), decoupled; gradients are clipped elementwise to [-1, 1]", "", _DETAILS),
    "warmup": Meaning("length of the warm-up", "steps", _DETAILS),
    "horizon": Meaning("where the cosine reaches `final_lr`; `null`: at `steps`", "steps", _DETAILS),
    "final_lr": Meaning("learning rate at the end of the cosine; `null`: constant after the warm-up", "", _DETAILS),
    "test_every": Meaning("the test loss is taken before every such step; first at step 0", "steps", _DETAILS),
    "test_batches": Meaning("batches of the test loss, always the same", "batches", _DETAILS),
    "test_batch": Meaning("size of a test batch", "sequences", _DETAILS),
    "stream": Meaning("name of the stream of training sequences: another name, other sequences"),
    "objective": Meaning("what is predicted, and what a wrong prediction costs: " + _file_in("objective"), "", _TASKS),
    "snapshot_every": Meaning("weights kept for interpolation; 0: only the first and the last", "steps", _PRECONDITIONING),
    "snapshot_until": Meaning("the last step at which weights are kept so often; 0: the last step", "steps", _PRECONDITIONING),
    "generator": Meaning(
        "what draws the training sequences: `pcg64` on the CPU, or `philox`, other sequences, which the CUDA kernel draws itself"
    ),
}

RUN = {
    "name": Meaning("task/name, the key of its entry; its folder below `results/{scale}/runs`"),
    "task": Meaning("name of a task", "", _TASKS),
    "model": Meaning("what is trained, below", "", _MODELS),
    "training": Meaning("how it is trained, below", "", _DETAILS),
}

_OBSERVED = "partially observed, nonlinear dynamics"

THEORY = {
    "name": Meaning("task/name, the key of its entry; its folder below `results/{scale}/theory`"),
    "task": Meaning("name of a task", "", _TASKS),
    "algorithm": Meaning(
        "`gd`: the learning rate eta by line search, then eta and the initial weights w_0 together; `chebyshev`: `n_steps` steps"
        " of preconditioning, then one of gradient descent; `lsq`: exact least squares; `kernel`: softmax kernel"
        " regression, whose beta is searched",
        "",
        f"{_CONSTRUCTION}; {_PRECONDITIONING}",
    ),
    "steps": Meaning("number of steps; none where nothing is learned: `lsq`, `scalars`", "steps", _DETAILS),
    "lr": Meaning("learning rate after the linear warm-up from 0", "", _DETAILS),
    "batch": Meaning("fresh sequences per step", "sequences", _DETAILS),
    "n_steps": Meaning("pairs alpha, beta of `chebyshev`", "pairs", _PRECONDITIONING),
    "inverse_lam": Meaning(
        "1/lambda, the regulariser of the least-squares problem, while alpha and beta are learned; after that, too, unless it is"
        " fixed or searched",
        "",
        _PRECONDITIONING,
    ),
    "form": Meaning("`textbook`: the text's scheme; `published`: the one behind the published curves", "", _PRECONDITIONING),
    "lag": Meaning("1 leaves out the latest pair, as the published curves do; 0 uses all pairs seen", "pairs", _PRECONDITIONING),
    "weight_decay": Meaning("of AdamW, decoupled", "", _DETAILS),
    "warmup": Meaning("length of the warm-up", "steps", _DETAILS),
    "horizon": Meaning("where the cosine reaches `final_lr`; `null`: at `steps`", "steps", _DETAILS),
    "final_lr": Meaning("learning rate at the end of the cosine; `null`: constant after the warm-up", "", _DETAILS),
    "input": Meaning(
        "what is read: `observations`: s_t; `concatenated`: the latest `k` of them; `features`: what the next state is linear in,"
        " of s_t, with values s_{t+1} of norm 1",
        "",
        _OBSERVED,
    ),
    "k": Meaning("observations that are concatenated, the newest first, zeros before the first one", "positions", _OBSERVED),
    "scalars": Meaning("another algorithm, whose alpha and beta are taken instead of learned", "", _OBSERVED),
    "fixed_inverse_lam": Meaning("1/lambda of the predictions, if not `inverse_lam`", "", _OBSERVED),
    "search_values": Meaning(
        "1/lambda of the predictions is the best of so many values, evenly spaced in their logarithm, as is beta of `kernel`;"
        " 0: no search",
        "values",
        _OBSERVED,
    ),
    "search_low": Meaning("the least of these values", "", _OBSERVED),
    "search_high": Meaning("the largest of these values", "", _OBSERVED),
    "search_sequences": Meaning("sequences that a search is on, which nothing else sees", "sequences", _OBSERVED),
}

_BATCHES = {
    "test_batches": Meaning("test batches that all seeds share", "batches", _DETAILS),
    "test_batch": Meaning("size of such a batch, as far as the scale has as many sequences", "sequences", _DETAILS),
}
EVALUATE = {
    **_BATCHES,
    "sequences": Meaning(
        "own sequences of a seed that its loss by position is at least on: those of its file first, then as many more as that"
        " takes, the same for all that is evaluated with the seed; 0: those of the file",
        "sequences",
        _DETAILS,
    ),
}

PROBE = {
    "preconditioner": Meaning(
        "the algorithm of the run's task that gives the target `preconditioned_input`; with a task in its name, of that task",
        "",
        _PROBING,
    ),
    "published_preconditioner": Meaning(
        "the same for the target `preconditioned_input_published`, which figures draw: of `form: published`", "", _PROBING
    ),
    "in_sample": Meaning("sequences that probes are fitted and scored on in the published way", "sequences", _PROBING),
    "in_context": Meaning("sequences of the in-context loss", "sequences", _PROBING),
    "in_context_positions": Meaning("at how many positions, the last ones, that loss is measured", "positions", _PROBING),
    **_BATCHES,
}

_TOKENS, _SENSITIVITY = "probing for past tokens", "sensitivity analysis"
TOKENS = {
    "layer": Meaning("the stream after this layer is probed; 0: the input", "", _TOKENS),
    "position": Meaning("where it is probed; `null`: at the last position", "position", _TOKENS),
    "tokens": Meaning("how many elements are decoded, the last ones up to that position", "elements", _TOKENS),
    "in_sample": PROBE["in_sample"],
    **_BATCHES,
}

SAMPLES = {"in_sample": PROBE["in_sample"], **_BATCHES}

ATTENTION = {
    "sequences": Meaning(
        "sequences that the weights are averaged over, as far as there are as many", "sequences", "attention maps"
    ),
    **_BATCHES,
}

SENSITIVITY = {
    "until": Meaning("last step of the training that counts", "steps", _SENSITIVITY),
    "tokens": Meaning("how many of the last elements are looked at one by one", "elements", _SENSITIVITY),
    "sequences": Meaning("sequences in a batch, always the same ones", "sequences", _SENSITIVITY),
    "test_batches": _BATCHES["test_batches"],
}

_FEW_SHOT, _LINEARISATION = "few-shot regression", "linearisation"
_PAIRS = Meaning("the task whose sequences are the pairs: one of kind `few_shot`", "", _FEW_SHOT)
PROMPTS = {
    "pairs": _PAIRS,
    "separators": Meaning("tuned tokens after every pair (EOS)", "tokens", _FEW_SHOT),
    "prefix": Meaning("tuned tokens before all pairs, tuned after the separators; 0: none", "tokens", _FEW_SHOT),
    "lr": Meaning("learning rate of Adam, constant; gradients are not clipped", "", _FEW_SHOT),
    "steps": Meaning("number of steps, for either kind of tokens", "steps", _FEW_SHOT),
    "separator_batch": Meaning("fresh sequences per step for the separators", "sequences", _FEW_SHOT),
    "prefix_batch": Meaning("fresh sequences per step for the prefix", "sequences", _FEW_SHOT),
}

LABELS = {
    "pairs": _PAIRS,
    "first_pairs": Meaning("pairs of the first task where the task changes", "pairs", _FEW_SHOT),
    "first_tokens": Meaning(
        "instead: positions that the first task takes in every form of prompt, its prefix included; published: 80; `null`: as"
        " many as `first_pairs` need",
        "positions",
        _FEW_SHOT,
    ),
    "inverse_lam": Meaning("1/lambda, the regulariser of least squares", "", _FEW_SHOT),
    "search_values": Meaning(
        "how many values of 1/lambda are tried for a second one, evenly spaced in their logarithm, on the sequences `probe_fit`",
        "values",
        _FEW_SHOT,
    ),
    "search_low": Meaning("the least of these values", "", _FEW_SHOT),
    "search_high": Meaning("the largest of these values", "", _FEW_SHOT),
}

DISTIL = {
    "starts": Meaning(
        "where linear layers start, one layer for each: `softmax`: at the softmax layer, W_Q over sqrt(d_head), W_O by least"
        " squares; `plain`: at random, as published",
        "",
        _LINEARISATION,
    ),
    "steps": Meaning("number of steps, for all layers at once", "steps", _LINEARISATION),
    "batch": Meaning("fresh sequences per step", "sequences", _LINEARISATION),
    "lr": Meaning("learning rate of AdamW, constant; gradients are clipped elementwise to [-1, 1]", "", _LINEARISATION),
    "weight_decay": Meaning("of AdamW, decoupled", "", _LINEARISATION),
    "init_std": Meaning("standard deviation of the weights of a plain start", "", _LINEARISATION),
    "recorded": Meaning("sequences for the least squares of W_O", "sequences", _LINEARISATION),
}

LINEARISE = {
    "test_batches": Meaning("batches of the losses with and without the linear layers", "batches", _LINEARISATION),
    "test_batch": Meaning("size of such a batch", "sequences", _LINEARISATION),
}

STYLE = {
    "width": Meaning("width of the figure, from 2 to 40", "inches"),
    "dpi": Meaning("dots of a PNG, from 30 to 1200", "per inch"),
    "font_size": Meaning("size of the type, from 3 to 30", "points"),
    "line_width": Meaning("width of the curves, from 0.1 to 10", "points"),
    "band": Meaning("whether one standard deviation over seeds is drawn"),
    "grid": Meaning("whether there is a grid"),
    "small_print": Meaning("whether scale, seeds and commit stand below the figure"),
    "probe_split": Meaning(
        "`in_sample`: probes fitted and scored on the same 256 sequences, as published; `held_out`: fitted on 2048 others and"
        " scored on 2048 more",
        "",
        _PROBING,
    ),
    "probe_form": Meaning(
        "the preconditioned input that probes look for: `published`, by the recursion behind the published curves; `textbook`, by"
        " that of the text",
        "",
        _PROBING,
    ),
}

#: name of the class -> its fields
DESCRIBED = {"Task": TASK, "Model": MODEL, "Training": TRAINING, "Run": RUN, "Theory": THEORY} | {
    "Evaluate": EVALUATE,
    "Probe": PROBE,
    "Tokens": TOKENS,
    "Samples": SAMPLES,
    "Attention": ATTENTION,
    "Sensitivity": SENSITIVITY,
    "Prompts": PROMPTS,
    "Labels": LABELS,
    "Distil": DISTIL,
    "Linearise": LINEARISE,
    "Style": STYLE,
    **DESCRIBED_LANGUAGE,
}
