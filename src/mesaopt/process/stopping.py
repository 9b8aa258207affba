"""Stopping a training from outside, between two steps rather than in the middle of one."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn


class StopRequest:
    """Context manager that notes SIGTERM and SIGINT in `signal` instead of ending the process; a second one interrupts."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        # elsewhere Python does not allow handlers, and signals go to the main thread anyway
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def leave(self) -> NoReturn:
        """End the process the way the noted signal would have: exit status 143, or an interrupt."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)
