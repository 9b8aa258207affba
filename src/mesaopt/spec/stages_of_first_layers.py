"""The stages that ask what the first layers of a Transformer on raw tokens do (paper, section on creating the mesa-dataset)."""

from mesaopt.spec.arguments import DEVICE, flag
from mesaopt.spec.files import SEQUENCES, SNAPSHOTS, WEIGHTS, run_table
from mesaopt.spec.stage import Stage

CONTROLS = flag("controls", "also the untrained model, targets of other sequences, test batches")

OF_FIRST_LAYERS = (
    Stage(
        "token-probes",
        "Which past elements can be decoded after the first layer at the last position.",
        of="run",
        reads=(WEIGHTS, SEQUENCES),
        arguments=(CONTROLS, DEVICE),
        writes=(
            run_table("token_probes", option="out").holding(
                "least squares without intercept from the residual stream after a layer at position t to s_{t'}, t' <= t; squared"
                " error, mean over channels (paper, section on creating the mesa-dataset: probing for past tokens)",
                "mesaopt.analyses.token_probes:token_table",
                "mesaopt.analyses.linear_probes:fit",
                "mesaopt.analyses.linear_probes:score",
            ),
        ),
        function="token_probes_stage",
        settings="mesaopt.spec.analysis:Tokens",
        quick=True,
        early=True,
    ),
    Stage(
        "feature-probes",
        "How well the features that a nonlinear task evolves by can be decoded after every layer.",
        of="run",
        reads=(WEIGHTS, SEQUENCES),
        arguments=(CONTROLS, DEVICE),
        writes=(
            run_table("feature_probes", option="out").holding(
                "least squares without intercept from the residual stream after a layer to MLP(s_t), not normalised; squared"
                " error, mean over channels (paper, section on creating the mesa-dataset: nonlinear dynamics)",
                "mesaopt.analyses.feature_probes:feature_table",
                "mesaopt.analyses.linear_probes:fit",
                "mesaopt.analyses.linear_probes:score",
            ),
        ),
        function="feature_probes_stage",
        settings="mesaopt.spec.analysis:Samples",
        quick=True,
        early=True,
    ),
    Stage(
        "attention",
        "Attention weights of the first layer of softmax attention, mean over sequences.",
        of="run",
        reads=(WEIGHTS, SEQUENCES),
        arguments=(CONTROLS, DEVICE),
        writes=(
            run_table("attention", option="out").holding(
                "softmax_{t'}(k_{t'}^T q_t / sqrt(d_head)) of every head of the first layer, mean over sequences"
                " (paper, section on creating the mesa-dataset: attention maps)",
                "mesaopt.analyses.attention_maps:mean_weights",
            ),
            run_table("attention_lags", option="lags").holding(
                "the same weights by distance t - t' from the query, mean over positions",
                "mesaopt.analyses.attention_maps:lag_table",
                "mesaopt.analyses.attention_maps:mean_weights",
            ),
        ),
        function="attention_stage",
        settings="mesaopt.spec.analysis:Attention",
        quick=True,
        early=True,
    ),
    Stage(
        "sensitivity",
        "How the first layer's last output depends on every element of the sequence, along the training.",
        of="run",
        reads=(SNAPSHOTS, SEQUENCES),
        arguments=(DEVICE,),
        writes=(
            run_table("sensitivity", option="out").holding(
                "|d f_{T,l} / d s_{t'}| of channel l of the first layer's output, mean over channels and sequences"
                " (paper, section on creating the mesa-dataset: sensitivity analysis)",
                "mesaopt.analyses.sensitivity:sensitivities",
            ),
        ),
        function="sensitivity_stage",
        settings="mesaopt.spec.analysis:Sensitivity",
        quick=True,
        early=True,
    ),
)
