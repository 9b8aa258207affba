"""Speed of language models: `make bench`, or `python benchmarks/language_speed.py [--quick] [--device cuda]`.

Tokens per second of training a model of one block of the laptop's size: by this project's step; by a plain loop of PyTorch, its
own AdamW included, with attention written plainly (PyTorch's kernel for softmax, all weights at once for linear, an update a
position for mesa); and by that loop with the kernels of the package flash-linear-attention, where it runs. On one thread and on
two; variants take turns. Prints a table in Markdown.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from mesaopt.models.language import LanguageTransformer  # noqa: E402
from mesaopt.models.language_block import MESA_FORMS, LanguageBlock  # noqa: E402
from mesaopt.spec.language import LanguageModel, LanguageRun, LanguageTraining  # noqa: E402
from mesaopt.spec.text import Text  # noqa: E402
from mesaopt.stages.train_language import keep_memory  # noqa: E402
from mesaopt.training.language_state import LanguageState  # noqa: E402

LAPTOP = LanguageModel(("softmax",), d_model=128, n_heads=4, d_head=16, key_shift="zero", position_scale=0.3)
GPU = replace(LAPTOP, d_model=512, n_heads=8, d_head=64)
VOCABULARY = 1024
KINDS = (("softmax", 0), ("linear", 0), ("linear", 2), ("mesa", 0), ("mesa", 2))

Answers = Callable[[Tensor, Tensor, Tensor, LanguageBlock], Tensor]


def plain_softmax(q: Tensor, k: Tensor, v: Tensor, block: LanguageBlock) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def plain_linear(q: Tensor, k: Tensor, v: Tensor, block: LanguageBlock) -> Tensor:
    return (q @ k.mT).tril() @ v


def plain_mesa(q: Tensor, k: Tensor, v: Tensor, block: LanguageBlock) -> Tensor:
    """Recursive least squares, one position after the other."""
    R = torch.eye(k.shape[-1], device=k.device) * block.lam[:, None, None]
    R, moment, answers = R.expand(len(q), -1, -1, -1), torch.zeros_like(v[:, :, 0, :, None] * k[:, :, 0, None, :]), []
    for t in range(q.shape[2]):
        key = k[:, :, t, :, None]
        gain = R @ key
        R = R - gain @ gain.mT / (1 + key.mT @ gain)
        moment = moment + v[:, :, t, :, None] @ key.mT
        answers.append((moment @ (R @ q[:, :, t, :, None]))[..., 0])
    return torch.stack(answers, dim=2)


@functools.cache
def library() -> dict[str, Answers]:
    """Kernels of flash-linear-attention, by kind; none where it is not there."""
    try:
        from fla.ops.linear_attn import chunk_linear_attn
        from fla.ops.mesa_net import chunk_mesa_net
    except Exception as error:
        print(f"flash-linear-attention does not run here: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return {}

    def swapped(x: Tensor) -> Tensor:
        return x.transpose(1, 2).contiguous()

    def linear(q: Tensor, k: Tensor, v: Tensor, block: LanguageBlock) -> Tensor:
        return swapped(chunk_linear_attn(swapped(q), swapped(k), swapped(v), scale=1.0, normalize=False)[0])

    def mesa(q: Tensor, k: Tensor, v: Tensor, block: LanguageBlock) -> Tensor:
        ones = torch.ones(q.shape[0], q.shape[2], q.shape[1], device=q.device)
        lamb = (1 / block.lam)[:, None].expand(-1, k.shape[-1]).contiguous()
        return swapped(chunk_mesa_net(swapped(q), swapped(k), swapped(v), torch.zeros_like(ones), ones, lamb)[0])

    return {"linear": linear, "mesa": mesa}


def variants(kind: str) -> Iterator[tuple[str, Answers | None]]:
    """Name of a variant, and what it puts in place of the block's own answers."""
    for form in MESA_FORMS if kind == "mesa" else ("",):
        yield f"this project{', ' + form if form else ''}", None
    yield "plain PyTorch", {"softmax": plain_softmax, "linear": plain_linear, "mesa": plain_mesa}[kind]
    if kind in (found := library()):
        yield "flash-linear-attention", found[kind]


def step_of(
    kind: str, nu: int, variant: str, answers: Answers | None, batch: int, length: int, device: str, threads: int
) -> Callable[[], None]:
    """A training step on tokens that are there, updates of the weights included."""
    model = replace(GPU if device == "cuda" else LAPTOP, layers=(kind,), nu=nu)
    run = LanguageRun("text/block", Text("text", ("docstrings",), context_length=length), model, LanguageTraining(10**9, batch))
    form = "recursion" if variant.endswith("recursion") else "chunked"
    state = LanguageState.initial(run, 1, VOCABULARY, device, form)
    tokens = torch.randint(0, VOCABULARY, (batch, length + 1), generator=torch.Generator().manual_seed(1)).to(device)
    if answers is None:
        torch.set_num_threads(1)
        return lambda: synchronised(device, state.update(tokens, threads))
    torch.set_num_threads(threads)
    return plain_step(state.model, answers, tokens, device)


def plain_step(model: LanguageTransformer, answers: Answers, tokens: Tensor, device: str) -> Callable[[], None]:
    block = model.blocks()[0]
    block._answers = lambda q, k, v, e: answers(q, k, v, block)  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.1)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        synchronised(device)

    return step


def synchronised(device: str, *_: object) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def rate(step: Callable[[], None], tokens: int, seconds: float) -> float:
    """Tokens per second; the first step is not counted."""
    step()
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() < start + seconds:
        step()
        count += 1
    return tokens * count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--length", type=int, default=512)
    given = parser.parse_args()
    batch = 64 if given.device == "cuda" else 4
    rounds, seconds = (1, 0.5) if given.quick else (3, 2.0)
    threads = (1,) if given.device == "cuda" or os.cpu_count() == 1 else (1, 2)
    print("| block | variant | threads | tokens/s: median (range) |\n|---|---|---|---|")
    torch.set_flush_denormal(True)
    keep_memory()
    for kind, nu in KINDS:
        found: dict[tuple[str, int], list[float]] = {}
        for _ in range(rounds):
            for variant, answers in variants(kind):
                for count in threads:
                    step = step_of(kind, nu, variant, answers, batch, given.length, given.device, count)
                    found.setdefault((variant, count), []).append(rate(step, batch * given.length, seconds))
        for (variant, count), rates in found.items():
            middle = f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
            print(f"| {kind}, nu = {nu} | {variant} | {count} | {middle} |", flush=True)


if __name__ == "__main__":
    main()
