"""Checkpoints come back bit for bit or not at all; a training has one owner."""

import math
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from mesaopt.errors import InputError
from mesaopt.process.checkpoint import exclusive, load_checkpoint, save_checkpoint

IDENTITY = {"spec": '{"lr":0.1}', "code": "abc", "seeds": (1, 11)}


def save(path: Path) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    state = {"step": 7, "history": [[0, None, [0.1 + 0.2]], [3, [1 / 3], [math.pi]]]}
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor([math.nan, -0.0, 1e-45]), "c": torch.randn(2, 3).mT}
    save_checkpoint(path, IDENTITY, state, tensors)
    return state, tensors


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path):
    path = tmp_path / "deep" / "checkpoint"
    state, tensors = save(path)
    found = load_checkpoint(path, IDENTITY)
    assert found is not None
    assert found[0] == state
    for name, tensor in tensors.items():
        assert torch.equal(found[1][name].view(torch.int32), tensor.contiguous().view(torch.int32))
    assert list(path.parent.iterdir()) == [path]


def test_no_checkpoint_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert load_checkpoint(tmp_path / "checkpoint", IDENTITY) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("part", ["digest", "header", "tensors", "cut", "empty"])
def test_a_damaged_checkpoint_is_discarded_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str):
    path = tmp_path / "checkpoint"
    save(path)
    content = bytearray(path.read_bytes())
    where = {"digest": 3, "header": content.index(b"identity"), "tensors": len(content) - 5}
    if part in where:
        content[where[part]] ^= 1
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b""}.get(part, content))
    assert load_checkpoint(path, IDENTITY) is None
    assert not path.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "damaged" in error and str(path) in error


@pytest.mark.parametrize(("change", "named"), [({"spec": "{}"}, "spec"), ({"code": "x", "seeds": (1,)}, "code, seeds")])
def test_a_checkpoint_of_something_else_is_discarded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], named: str
):
    path = tmp_path / "checkpoint"
    save(path)
    assert load_checkpoint(path, IDENTITY | change) is None
    assert not path.exists()
    assert f"another {named};" in capsys.readouterr().err


def test_a_disk_that_refuses_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save(tmp_path / "file" / "checkpoint")
    with pytest.raises(InputError, match="cannot be written"), exclusive(tmp_path / "file" / "home", "run seed 1"):
        pass


def test_a_lock_file_without_owner_is_no_obstacle_and_leftovers_go(tmp_path: Path):
    (tmp_path / "lock").write_text("process 1 on elsewhere")
    (tmp_path / ".checkpoint.half").write_text("x")
    (tmp_path / "checkpoint").write_text("whole")
    with exclusive(tmp_path, "run seed 1"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_held_lock_is_waited_for_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    held = threading.Event()

    def hold() -> None:
        with exclusive(tmp_path / "home", "run seed 1") as waited:
            assert not waited
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    start = time.monotonic()
    with exclusive(tmp_path / "home", "run seed 1") as waited:
        assert waited
        assert (tmp_path / "home" / "lock").exists()
    assert time.monotonic() - start > 0.3
    thread.join()
    assert not (tmp_path / "home").exists()
    line = f"mesaopt: run seed 1 is being trained by process {os.getpid()} on {os.uname().nodename}: waiting for it\n"
    assert capsys.readouterr().err == line


def test_a_folder_that_goes_while_its_lock_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home, opened, real = tmp_path / "home", [], os.open

    def open_late(path, *options):
        if path == home / "lock" and not opened:
            home.rmdir()  # by the holder before, at the worst moment
        opened.append(path)
        return real(path, *options)

    monkeypatch.setattr(os, "open", open_late)
    with exclusive(home, "run seed 1") as waited:
        assert (home / "lock").exists() and not waited
    assert opened.count(home / "lock") == 2


def test_owners_follow_one_another(tmp_path: Path):
    """Many threads contend while the lock file is made and removed: never two at a time."""
    inside, worst = [], []

    def work() -> None:
        with exclusive(tmp_path / "home", "run seed 1"):
            inside.append(1)
            worst.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == [1] * 8
