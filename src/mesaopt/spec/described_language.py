"""What the settings of language models mean; `described` has those of everything else."""

from mesaopt.spec.meaning import Meaning, file_in

_PAPER = "language models"

TEXT = {
    "name": Meaning("what the text is called; the key of its entry", "", _PAPER),
    "corpora": Meaning("where documents come from, one after the other: each " + file_in("corpus"), "", _PAPER),
    "context_length": Meaning("T: how many tokens a sequence has, and as many predictions", "tokens", _PAPER),
    "tokeniser": Meaning("how text is cut into tokens: " + file_in("tokeniser"), "", _PAPER),
    "vocabulary": Meaning("tokens that `bpe` learns; 0 where the tokeniser knows how many it has", "tokens", _PAPER),
    "validation": Meaning("share of the families of documents that is held back", "", _PAPER),
    "megabytes": Meaning("a corpus ends after so many; 0: all of it", "10^6 bytes"),
    "path": Meaning("folder of the corpus `folder`: *.jsonl, *.jsonl.zst, *.parquet, *.txt"),
    "column": Meaning("where a document is in such a file"),
}

MODEL = {
    "layers": Meaning("kind of every attention layer: " + file_in("layer"), "", _PAPER),
    "d_model": Meaning("width of the residual stream; published: 756, which 12 heads of 64 do not make", "channels", _PAPER),
    "n_heads": Meaning("heads of every layer", "heads", _PAPER),
    "d_head": Meaning("width of a head's queries, keys (before their features) and values", "channels", _PAPER),
    "d_mlp": Meaning("hidden width of the MLP after each attention layer; 0: none", "channels", _PAPER),
    "nu": Meaning("DPFP(nu) of queries and keys, with 2 d_head nu channels, in all layers but softmax; 0: none", "", _PAPER),
    "key_shift": Meaning(
        "keys of the first layer: `none`: of the token itself; `zero`: of the token before, and at the first position of a zero"
        " token; `self`: there of the token itself",
        "",
        _PAPER,
    ),
    "normalise": Meaning("where these are divided by their norm: `after` the features, `before` them, or `none`", "", _PAPER),
    "guard": Meaning("the least norm that they are divided by: features may all be zero"),
    "positions": Meaning("`sinusoidal`, `learned` or `none`", "", _PAPER),
    "embedding_scale": Meaning("token vectors are multiplied by so many times sqrt(d_model)", "", _PAPER),
    "position_scale": Meaning("positions are multiplied by it before they are added", "", _PAPER),
    "output": Meaning("`untied`: a matrix of its own gives the logits; `tied`: a square one, then the token vectors", "", _PAPER),
    "activation": Meaning("of the MLP: `relu` or `gelu`", "", _PAPER),
    "biases": Meaning("`all`: of every product and layer normalisation, from 0; `none`", "", _PAPER),
    "dropout": Meaning("share of the embedding that is dropped in training, nowhere else", "", _PAPER),
    "init_std": Meaning("standard deviation of the initial weights; in front of a residual sum by sqrt(2 layers)", "", _PAPER),
}

TRAINING = {
    "tokens": Meaning("length of the training; the paper does not say it", "tokens", _PAPER),
    "batch": Meaning("sequences per step", "sequences", _PAPER),
    "micro_batch": Meaning("as many of them at a time, gradients are summed; 0: all", "sequences"),
    "lr": Meaning("learning rate after the warm-up", "", _PAPER),
    "first_lr": Meaning("learning rate at the beginning of the warm-up, which is linear", "", _PAPER),
    "final_lr": Meaning("learning rate at the end of the cosine, and from then on", "", _PAPER),
    "warmup": Meaning("length of the warm-up", "tokens", _PAPER),
    "horizon": Meaning("length of the cosine after it; 0: the rate stays", "tokens", _PAPER),
    "beta_1": Meaning("of AdamW", "", _PAPER),
    "beta_2": Meaning("of AdamW", "", _PAPER),
    "weight_decay": Meaning("of AdamW, decoupled", "", _PAPER),
    "decay": Meaning("what it holds for: `matrices` of layers and output, or `all`", "", _PAPER),
    "clip": Meaning("the norm that a step's gradient is scaled down to", "", _PAPER),
    "test_every": Meaning("the test loss is taken before every such step, and at the end", "steps"),
    "test_sequences": Meaning("held-back sequences of the test loss, always the same", "sequences"),
    "objective": Meaning("what is predicted, and what a wrong prediction costs: " + file_in("objective"), "", _PAPER),
}

MEASURES = {
    "sequences": Meaning("held-back sequences of the loss by position", "sequences"),
    "repeated": Meaning("sequences of random tokens that come twice", "sequences"),
    "maps": Meaning("sequences that attention maps are means over", "sequences", _PAPER),
    "map_length": Meaning("how many positions of them, from the first", "tokens", _PAPER),
}

#: name of the class -> its fields
DESCRIBED_LANGUAGE = {"Text": TEXT, "LanguageModel": MODEL, "LanguageTraining": TRAINING, "LanguageMeasures": MEASURES}
