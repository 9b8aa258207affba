"""What a training says while it runs."""

import pytest

from mesaopt.process.progress import LineAMinute, Progress


def test_progress_as_lines_and_as_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for mode in ("auto", "bar", "none"):
        monkeypatch.setattr("mesaopt.process.progress.BAR_SECONDS", -1.0)
        progress = Progress("tiny/linear", [1], 2500, mode)
        progress.start(500, "cpu", "torch")
        progress.test_loss(0.5)
        for step in (999, 1000, 1001, 2000):
            progress.update(step)
        progress.finished(2500, "cpu", "torch")
    lines, bar = capsys.readouterr().err.split("finished (cpu, backend torch) at step 2500", 1)
    assert [line.partition(",")[0] for line in lines.splitlines()] == [
        "tiny/linear seed 1: goes on at step 500 of 2500 on cpu",
        "tiny/linear seed 1: step 1000 of 2500",
        "tiny/linear seed 1: step 2000 of 2500",
        "tiny/linear seed 1: ",
    ]
    assert "steps/s, test loss 0.5000" in lines
    assert bar.count("\r") == 4 and "1001/2500" in bar
    assert bar.count("finished") == 1


def test_a_descent_says_how_far_it_is_once_a_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    now = iter([0.0, *(20.0 * step for step in range(1, 8))])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress = LineAMinute("tiny/linear seed 1: prefix", 50, 10)
    for step in range(11, 18):
        progress.update(step, float(step))
    assert capsys.readouterr().err.splitlines() == [
        "tiny/linear seed 1: prefix: step 13 of 50, 0.1 steps/s, loss 12.0000",
        "tiny/linear seed 1: prefix: step 16 of 50, 0.1 steps/s, loss 15.0000",
    ]
