"""What one training step computes."""

import pytest
import torch
from tiny_runs import MODELS, TASK, make_run

from mesaopt.backends.torch import TorchBackend
from mesaopt.data.sequences import inputs_targets, training_batch
from mesaopt.data.test_sets import fixed_test_batches
from mesaopt.data.tokens import tokenise
from mesaopt.training.loop import update
from mesaopt.training.optimizer import AdamW
from mesaopt.training.schedule import learning_rate
from mesaopt.training.state import TrainingState


@pytest.mark.parametrize("model", MODELS)
def test_updates_equal_the_formula_in_float64(model: str):
    """Three steps of AdamW with elementwise clipping, written out; to 1e-3 of the distance AdamW goes in a step."""
    run = make_run(model, lr=0.01, weight_decay=0.3, warmup=2, horizon=7, final_lr=0.001)
    state = TrainingState.initial(run, [5], "cpu")
    naive = TrainingState.initial(run, [5], "cpu").model.double()
    first, second = ({name: torch.zeros_like(p) for name, p in naive.named_parameters()} for _ in range(2))
    clipped = 0.0
    for step in range(3):
        losses = update(run, [5], state, TorchBackend())
        inputs, targets = inputs_targets(training_batch(TASK, [5], 8, "train", step).double())
        loss = (naive(tokenise(inputs, run.model.tokens)) - targets).square().sum(-1).mean() / 2
        naive.zero_grad()
        loss.backward()
        assert losses.item() == pytest.approx(loss.item(), rel=1e-4)
        for name, p in naive.named_parameters():
            clipped = max(clipped, p.grad.abs().max().item())
            gradient = p.grad.clamp(-1, 1)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
            p.data -= learning_rate(step, 0.01, 2, 7, 0.001) * (m / (v.sqrt() + 1e-8) + 0.3 * p.data)
    assert (clipped > 1) == (model == "steep")
    for (name, ours), expected in zip(state.model.named_parameters(), naive.parameters(), strict=True):
        assert (ours - expected).norm() <= 1e-3 * 0.01 * ours.numel() ** 0.5, name


def test_the_optimizer_follows_that_of_pytorch():
    """Fifty updates with changing rates and gradients over many orders of magnitude; to 1e-6 of the distance gone."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(300.0).div(100).clone()) for _ in range(2))
    mine = AdamW([ours], weight_decay=0.2)
    reference = torch.optim.AdamW([theirs], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.2, foreach=False)
    for step in range(50):
        theirs.grad = torch.randn(300) * torch.logspace(-9, 3, 300)
        ours.grad.copy_(theirs.grad)
        reference.param_groups[0]["lr"] = 0.01 * (step % 7)
        mine.update(step, 0.01 * (step % 7))
        reference.step()
    assert (ours - theirs).abs().max() <= 1e-6 * 50 * 0.03


@pytest.mark.parametrize("model", MODELS)
def test_a_stacked_pack_equals_separate_seeds_after_one_step(model: str):
    run, seeds = make_run(model, lr=0.01), [1, 11, 111]
    stacked = TrainingState.initial(run, seeds, "cpu")
    losses = update(run, seeds, stacked, TorchBackend())
    for index, seed in enumerate(seeds):
        alone = TrainingState.initial(run, [seed], "cpu")
        assert update(run, [seed], alone, TorchBackend()).item() == pytest.approx(losses[index].item(), rel=1e-6)
        for name, value in alone.model.seed_weights(0).items():
            assert (stacked.model.seed_weights(index)[name] - value).abs().max() <= 1e-6, name


def test_the_stream_changes_the_training_but_not_the_test_batches():
    ours, other = make_run(stream="train"), make_run(stream="again")
    assert torch.equal(fixed_test_batches(ours, [1]), fixed_test_batches(other, [1]))
    weights = []
    for run in (ours, other):
        state = TrainingState.initial(run, [1], "cpu")
        update(run, [1], state, TorchBackend())
        weights.append(state.model.seed_weights(0)["layers.0.W_Q"])
    assert not torch.equal(*weights)
