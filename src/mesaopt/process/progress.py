"""How far a training is: a bar on a terminal, a line now and then in a log. On standard error."""

import sys
import time
from collections.abc import Sequence

LINE_EVERY = 1000
LINE_SECONDS = 60.0
BAR_SECONDS = 0.2
_WIDTH = 30


class Progress:
    """Reports on one training; `mode` is `auto` (a bar on a terminal, else lines), `bar`, `lines` or `none`."""

    def __init__(self, run: str, seeds: Sequence[int], total: int, mode: str = "auto") -> None:
        self.label, self.total = f"{run} seed {', '.join(map(str, seeds))}", total
        self.mode = mode if mode != "auto" else "bar" if sys.stderr.isatty() else "lines"
        self.first, self.since, self.drawn, self.loss = 0, time.monotonic(), 0.0, ""

    def start(self, step: int, device: str, backend: str) -> None:
        """Training begins, or goes on, at `step`."""
        self.first, self.since = step, time.monotonic()
        action = f"goes on at step {step} of {self.total}" if step else f"{self.total} steps"
        self._line(f"{self.label}: {action} on {device}, backend {backend}")

    def test_loss(self, value: float) -> None:
        self.loss = f", test loss {value:.4f}"

    def update(self, step: int) -> None:
        """`step` updates are done."""
        if self.mode == "bar" and time.monotonic() > self.drawn + BAR_SECONDS:
            self.drawn = time.monotonic()
            done = _WIDTH * step // self.total
            bar = "█" * done + "·" * (_WIDTH - done)
            print(
                f"\r{self.label} {bar} {step}/{self.total}, {self._speed(step)}{self.loss} ", end="", file=sys.stderr, flush=True
            )
        elif self.mode == "lines" and step % LINE_EVERY == 0:
            self._line(f"{self.label}: step {step} of {self.total}, {self._speed(step)}{self.loss}")

    def finished(self, step: int, device: str, backend: str) -> None:
        """Training is over."""
        self._end(step, f"finished ({device}, backend {backend})")

    def stopped(self, step: int) -> None:
        """Training was asked to stop, and will go on from here."""
        self._end(step, "stopped")

    def _end(self, step: int, what: str) -> None:
        if self.mode == "bar":
            print(file=sys.stderr)
        self._line(f"{self.label}: {what} at step {step}, {self._speed(step)}{self.loss}")

    def _speed(self, step: int) -> str:
        return _per_second(step - self.first, time.monotonic() - self.since)

    def _line(self, text: str) -> None:
        if self.mode != "none":
            print(text, file=sys.stderr, flush=True)


def _per_second(steps: int, seconds: float) -> str:
    return f"{steps / max(seconds, 1e-9):.1f} steps/s"


class LineAMinute:
    """Reports on a descent that prints nothing else: `what` is learned in `total` steps, of which `first` were made before."""

    def __init__(self, what: str, total: int, first: int) -> None:
        self.what, self.total, self.first = what, total, first
        self.since = self.said = time.monotonic()
        self.losses: list[float] = []

    def update(self, step: int, loss: float) -> None:
        """`step` updates are done, the last one at this loss; a line has their mean since the line before."""
        self.losses.append(loss)
        now = time.monotonic()
        if now < self.said + LINE_SECONDS:
            return
        speed, mean = _per_second(step - self.first, now - self.since), sum(self.losses) / len(self.losses)
        print(f"{self.what}: step {step} of {self.total}, {speed}, loss {mean:.4f}", file=sys.stderr, flush=True)
        self.said, self.losses = now, []
