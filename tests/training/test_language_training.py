"""Training on text: the optimiser and the schedule are PyTorch's and the stated ones, and an interruption changes no bit."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from mesaopt.data.shards import tokenise_stage
from mesaopt.data.windows import Tokens
from mesaopt.errors import DivergenceError, InputError
from mesaopt.models.language import decayed, initialise_language
from mesaopt.models.language_measures import Positions, loss_curve, score
from mesaopt.models.weights import load_weights
from mesaopt.spec.language import LanguageModel, LanguageRun, LanguageTraining, read_language_run
from mesaopt.spec.text import Text
from mesaopt.store.tables import read_table
from mesaopt.training import language
from mesaopt.training.language import LanguageOptions, LanguageTrainer, TokenProgress, train_language
from mesaopt.training.language_optimizer import LanguageAdamW, learning_rate
from mesaopt.training.language_state import LanguageState

MODEL = LanguageModel(("softmax", "mesa"), d_model=8, n_heads=2, d_head=4, nu=1, init_std=0.2)
TRAINING = LanguageTraining(
    tokens=6 * 4 * 16, batch=4, lr=1e-2, final_lr=1e-3, warmup=128, horizon=256, test_every=2, test_sequences=8
)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> tuple[Text, Path]:
    folder = tmp_path_factory.mktemp("text")
    lines = (json.dumps({"text": f"{number} and {number + 1} are numbers, one after the other"}) for number in range(80))
    (folder / "a.jsonl").write_text("\n".join(lines))
    spec = Text("text", ("folder",), context_length=16, path=str(folder), validation=0.2)
    tokenise_stage(spec, folder / "out" / "tokens.json", {})
    return spec, folder / "out" / "tokens.json"


def made(text: Text, **training) -> LanguageRun:
    return LanguageRun("text/small", text, MODEL, replace(TRAINING, **training))


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("language_history.parquet", "weights.safetensors", "spec.json")}


# --- the step
def test_the_optimiser_is_that_of_pytorch():
    """With global-norm clipping and without decay of vectors, over ten steps."""
    torch.manual_seed(1)
    training = replace(TRAINING, weight_decay=0.3, clip=0.7)
    ours = initialise_language(MODEL, 20, 16, seed=1).double()
    theirs = initialise_language(MODEL, 20, 16, seed=1).double()
    held = decayed(theirs, "matrices")
    groups = [
        {"params": [p for p, yes in zip(theirs.parameters(), held, strict=True) if yes == part], "weight_decay": 0.3 * part}
        for part in (True, False)
    ]
    reference = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    optimizer = LanguageAdamW(list(ours.parameters()), held, training)
    for step in range(10):
        tokens = torch.randint(0, 20, (3, 16))
        for model in (ours, theirs):
            for p in model.parameters():
                if p.grad is not None:
                    p.grad.zero_()
            (model(tokens).square().mean() * 5).backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.7)
        assert float(optimizer.clip(0.7)) == pytest.approx(float(norm), rel=1e-9)
        for group in reference.param_groups:
            group["lr"] = 0.01 * (step + 1)
        reference.step()
        optimizer.update(step, 0.01 * (step + 1))
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter, theirs.get_parameter(name), rtol=1e-6, atol=1e-9), name


def test_the_rate_follows_the_tokens():
    published = LanguageTraining(tokens=1)
    assert learning_rate(published, 0) == 1e-6
    assert learning_rate(published, 4000 * 262144) == pytest.approx((1e-6 + 3e-4) / 2)
    assert learning_rate(published, 8000 * 262144) == pytest.approx(3e-4)
    assert learning_rate(published, 8000 * 262144 + 150_000_000_000) == pytest.approx(2.5e-4)
    assert learning_rate(published, 10**13) == pytest.approx(2e-4)
    assert learning_rate(replace(published, horizon=0), 10**13) == 3e-4


def test_micro_batches_give_the_gradient_of_the_whole(text):
    spec, tokens = text
    found = []
    for micro in (0, 1, 2):
        run = LanguageRun("text/small", spec, replace(MODEL, dropout=0.0), replace(TRAINING, micro_batch=micro, clip=1e9))
        state = LanguageState.initial(run, 1, 257, "cpu", "chunked")
        loss = state.update(Tokens(tokens, "train", spec).windows(1, "text", 0, 4))
        found.append((loss, state.optimizer.gradients.clone()))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        assert torch.allclose(gradients, found[0][1], rtol=1e-3, atol=1e-6)


def test_dropout_holds_for_the_embedding_in_training_alone(text):
    spec, tokens = text
    state = LanguageState.initial(made(spec), 1, 257, "cpu", "chunked")
    inputs = Tokens(tokens, "train", spec).windows(1, "text", 0, 200)[:, :-1]
    kept = state._kept(inputs, state._dropout())
    assert float((kept == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    assert torch.equal(kept, state._kept(inputs, state._dropout())), "a function of seed and step"
    assert torch.equal(state.model(inputs), state.model(inputs))


# --- the training
def test_a_training_learns_and_writes_what_it_is(text, tmp_path):
    spec, tokens = text
    run = made(spec, tokens=60 * 64, horizon=3712)
    train_language(run, 1, tokens, tmp_path / "seed-1", LanguageOptions(tmp_path / "c", progress="none"))
    history = read_table(tmp_path / "seed-1/language_history.parquet", "language_history")
    assert list(history["step"]) == list(range(0, 61, 2)) and list(history["tokens"][:2]) == [0, 128]
    assert history["test_loss"].iloc[0] == pytest.approx(math.log(257), rel=0.2)
    assert history["test_loss"].iloc[-1] < 0.75 * history["test_loss"].iloc[0]
    assert (history["perplexity"] - history["test_loss"].map(math.exp)).abs().max() < 1e-9
    assert read_language_run(tmp_path / "seed-1/weights.safetensors") == (run, 1)
    facts = json.loads((tmp_path / "seed-1/provenance.json").read_text())
    assert facts["seed"] == 1 and facts["mesa_form"] == "chunked" and facts["tokens"] == Tokens(tokens, "train", spec).digest
    assert not list((tmp_path / "c").rglob("checkpoint"))


@pytest.mark.parametrize("stopped_at", [1, 2, 5])
def test_an_interrupted_training_ends_with_the_same_bits(text, tmp_path, monkeypatch, stopped_at):
    spec, tokens = text
    run, options = made(spec), LanguageOptions(tmp_path / "c", 0.0, progress="none")
    train_language(run, 1, tokens, tmp_path / "whole/seed-1", options)
    update = LanguageState.update

    def interrupted(state, windows, threads):
        if state.step == stopped_at:
            raise KeyboardInterrupt
        return update(state, windows, threads)

    monkeypatch.setattr(LanguageState, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_language(run, 1, tokens, tmp_path / "parts/seed-1", options)
    monkeypatch.setattr(LanguageState, "update", update)
    went_on = []
    monkeypatch.setattr(LanguageTrainer, "_keep", lambda trainer, stop: went_on.append(trainer.state.step))
    train_language(run, 1, tokens, tmp_path / "parts/seed-1", options)
    assert went_on[0] == stopped_at + 1
    assert files(tmp_path / "parts/seed-1") == files(tmp_path / "whole/seed-1")


@pytest.mark.parametrize("training", [{}, {"batch": 6, "micro_batch": 3, "tokens": 6 * 6 * 16}, {"batch": 1, "tokens": 6 * 16}])
def test_a_second_thread_changes_no_bit(text, tmp_path, training):
    spec, tokens = text
    for name, threads in (("one", lambda: 1), ("two", lambda: 2), ("changing", iter([1, 2, 1, 2, 2, 1]).__next__)):
        options = LanguageOptions(tmp_path / "c", progress="none", threads=threads)
        train_language(made(spec, **training), 1, tokens, tmp_path / name / "seed-1", options)
    assert files(tmp_path / "one/seed-1") == files(tmp_path / "two/seed-1") == files(tmp_path / "changing/seed-1")


def test_seeds_differ_and_a_seed_does_not(text, tmp_path):
    spec, tokens = text
    for name, seed in (("a/seed-1", 1), ("b/seed-1", 1), ("a/seed-2", 2)):
        train_language(made(spec), seed, tokens, tmp_path / name, LanguageOptions(tmp_path / "c", progress="none"))
    assert files(tmp_path / "a/seed-1") == files(tmp_path / "b/seed-1")
    one, other = (load_weights(tmp_path / f"a/seed-{seed}/weights.safetensors") for seed in (1, 2))
    assert not torch.equal(one["output"], other["output"])


def test_a_divergence_says_step_and_seed_and_is_never_retried(text, tmp_path, monkeypatch):
    spec, tokens = text
    monkeypatch.setattr(language, "SANE_LOSS", 1e-3)
    for attempt in range(2):
        with pytest.raises(DivergenceError, match=r"text/small seed 7 diverged at step 0: loss .*; history kept in") as error:
            train_language(made(spec), 7, tokens, tmp_path / "seed-7", LanguageOptions(tmp_path / "c", progress="none"))
        assert "\n" not in str(error.value), attempt
    kept = pd.read_parquet(tmp_path / "c/text/small/seed-7/history.parquet")
    assert list(kept["step"]) == [0]
    assert not (tmp_path / "seed-7/weights.safetensors").exists()


def test_tokens_of_another_text_are_refused(text, tmp_path):
    spec, tokens = text
    run = made(replace(spec, validation=0.5))
    with pytest.raises(InputError, match="tokens of another text"):
        train_language(run, 1, tokens, tmp_path / "seed-1", LanguageOptions(tmp_path / "c"))


def test_progress_says_tokens_a_second_and_when_the_end_comes(text, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = TokenProgress(made(text[0]), 1, "none")
    progress.start(0, "cpu", "PyTorch")
    now[0] = 2.0
    assert progress._speed(2) == "64 tokens/s, about 4 s left"
    assert progress._speed(6) == "192 tokens/s"


# --- measures
def test_positions_are_the_published_ones_where_they_fit():
    assert Positions.of(1024) == Positions((40, 60), (450, 550), (50, 500))
    assert Positions.of(512) == Positions((20, 30), (225, 275), (25, 250))
    assert Positions.of(64) == Positions((2, 4), (28, 34), (3, 31))


def test_the_score_is_late_less_early():
    curve = pd.Series(range(1, 1025)).to_numpy() * -0.001
    assert score(curve) == pytest.approx(-0.001 * (500 - 50))


def test_the_loss_by_position_is_the_mean_over_sequences(text):
    spec, tokens = text
    model = initialise_language(MODEL, 257, 16, seed=1)
    windows = Tokens(tokens, "validation", spec).windows(0, "test", 0, 5)
    probabilities = model(windows[:, :-1]).detach().double().softmax(-1)
    expected = [sum(-math.log(probabilities[i, t, windows[i, t + 1]]) for i in range(5)) / 5 for t in range(16)]
    assert loss_curve(model, windows, together=2) == pytest.approx(expected, rel=1e-5)
