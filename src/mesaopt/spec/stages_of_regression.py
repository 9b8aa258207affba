"""The stages that use trained Transformers for supervised regression in context, and make softmax layers linear (paper, sections
on few-shot regression and on linearisation).
"""

from mesaopt.spec.arguments import BACKEND, DEVICE, File, folder, seconds, spec
from mesaopt.spec.files import RUN, SEQUENCES, WEIGHTS, run_table
from mesaopt.spec.stage import Stage

#: sequences of the task of the pairs, not of the run's own
PAIRS = File("pairs", SEQUENCES.place, SEQUENCES.table)
TOKENS = run_table("prompt_tokens", option="tokens")
LINEAR_LAYERS = File("linear_layers", f"{RUN}/linear_layers.safetensors", option="linear-layers")
#: what softmax layers are replaced by
LINEAR = ("mesaopt.models.layers.linear",)
#: of stages that descend for a long time
DESCENDS = (folder("checkpoints"), seconds("checkpoint-every", 20.0), DEVICE, BACKEND)

OF_REGRESSION = (
    Stage(
        "tune-prompts",
        "Tune tokens between and before the pairs of few-shot regression; the model is frozen.",
        of="run",
        reads=(WEIGHTS,),
        arguments=(spec("task", "mesaopt.spec.run:Task"), *DESCENDS),
        writes=(
            TOKENS.holding(
                "channels of the tokens that minimise the error of labels of the frozen model"
                " (paper, section on few-shot regression: prompt tuning)",
                "mesaopt.training.prompts:tune",
            ),
            run_table("tuning").holding(
                "error of labels, mean over the pairs of a prompt, by step of tuning its tokens", "mesaopt.training.prompts:tune"
            ),
        ),
        function="tune_prompts_stage",
        settings="mesaopt.spec.analysis:Prompts",
        minutes=240,
    ),
    Stage(
        "few-shot",
        "Error of labels by the number of pairs seen before, with and without tuned tokens, of one task and after a change.",
        of="run",
        reads=(WEIGHTS, PAIRS, TOKENS),
        arguments=(DEVICE,),
        writes=(
            run_table("few_shot", option="out").holding(
                "half the squared error of the label predicted at x, summed over channels, mean over sequences, by pair (paper,"
                " section on few-shot regression)",
                "mesaopt.analyses.few_shot:few_shot_table",
                "mesaopt.data.prompts:Prompt",
            ),
            run_table("early_ascent", option="ascent").holding(
                "how far the error of labels rises above that of predicting zero, after which number of pairs it is highest, and"
                " after how many it is above",
                "mesaopt.analyses.few_shot:early_ascent",
            ),
        ),
        function="few_shot_stage",
        settings="mesaopt.spec.analysis:Labels",
        quick=True,
        early=True,
    ),
    Stage(
        "distil",
        "Distil all softmax layers of a trained model into linear ones, each layer by itself.",
        of="run",
        reads=(WEIGHTS,),
        arguments=DESCENDS,
        writes=(
            LINEAR_LAYERS,
            run_table("distillation").holding(
                "half the squared error of a linear layer's attention output, mean over positions, summed over channels and"
                " layers, by step (paper, section on linearisation)",
                "mesaopt.training.distillation:distil",
            ),
        ),
        function="distil_stage",
        words=LINEAR,
        settings="mesaopt.spec.analysis:Distil",
        minutes=720,
    ),
    Stage(
        "linearise",
        "Test loss with linear layers in the place of softmax ones, one by one and all at once.",
        of="run",
        reads=(WEIGHTS, LINEAR_LAYERS),
        arguments=(DEVICE,),
        writes=(
            run_table("linearisation", option="out").holding(
                "test loss with a distilled linear layer in the place of a softmax layer, by that of the trained model on the"
                " same sequences (paper, section on linearisation)",
                "mesaopt.analyses.linearisation:linearisation_table",
            ),
        ),
        function="linearise_stage",
        words=LINEAR,
        settings="mesaopt.spec.analysis:Linearise",
        quick=True,
    ),
    Stage(
        "linear-weights",
        "Weight products of softmax layers and of the linear layers distilled from them.",
        of="run",
        reads=(WEIGHTS, LINEAR_LAYERS),
        writes=(
            run_table("linear_weights", option="out").holding(
                "W_K^T W_Q, of softmax layers over sqrt(d_head), and W_O W_V of every head (paper, appendix on linearisation)",
                "mesaopt.models.products:layer_products",
                "mesaopt.analyses.linearisation:products_by_start",
            ),
        ),
        function="linear_weights_stage",
        quick=True,
    ),
)
