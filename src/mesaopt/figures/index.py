"""Every figure: its name and the function that says what it shows.

Numbers follow the first version of arXiv:2309.05858, `v2/fig4` its second one, which composes the same panels; `ext/` are this
project's own.
"""

from collections.abc import Callable

from mesaopt.figures.families import (
    complete,
    control_tasks,
    few_shot,
    interpolation,
    kinds_of_layers,
    language,
    linear_layers,
    linearisation,
    overview,
    regression,
)
from mesaopt.figures.parts import Figure

INDEX: dict[str, Callable[[], Figure]] = {
    "fig1": overview.hypothesis,
    "fig2": linear_layers.one_layer,
    "fig3": linear_layers.deep,
    "fig4": complete.mesa_dataset,
    "fig5": linearisation.by_size,
    "fig6": complete.softmax,
    "fig7": complete.models_by_task,
    "fig8": few_shot.softmax,
    "fig9": linear_layers.weights_of_deep,
    "fig10": complete.weights_of_softmax,
    "fig11": control_tasks.contracting,
    "fig12": control_tasks.fixed_teacher,
    "fig13": linear_layers.weights_of_one_layer,
    "fig14": complete.attention_of_softmax,
    "fig15": complete.attention_of_hybrid,
    "fig16": complete.sensitivity_linear,
    "fig17": complete.tokens_by_model,
    "fig18": few_shot.hybrid,
    "fig19": linearisation.weights,
    "fig20": regression.by_noise,
    "fig21": complete.tokens_by_width,
    "fig22": complete.sensitivity_partial,
    "fig23": complete.sensitivity_nonlinear,
    "fig24": complete.softmax_partial,
    "fig25": complete.softmax_nonlinear,
    "fig26": language.key_shift,
    "fig27": language.hybrids,
    "fig28": language.first_layer,
    "ext/interpolation": interpolation.heads_matched,
    "ext/layers": kinds_of_layers.side_by_side,
    "ext/observations": complete.observations,
    "ext/rates": linearisation.rates,
    "ext/teachers": control_tasks.other_teachers,
    "v2/fig2": complete.tokens_and_features,
    "v2/fig3": complete.attention_and_weights,
    "v2/fig4": linear_layers.one_layer_and_deep,
}
