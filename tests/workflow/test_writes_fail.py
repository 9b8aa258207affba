"""The n-th write of a miniature chain fails, for every n: one line and nothing half, then the same again gives the same."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import write_faults
from workflow_folder import ROOT, environment
from write_faults import CHAIN, KINDS, Case

SAMPLE = 40


class Server:
    """A process that has all imported, and forks one for each fault."""

    def __init__(self, folder: Path) -> None:
        line = [sys.executable, write_faults.__file__, str(folder)]
        variables = environment() | {"PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(line, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        steps = json.loads(self.process.stdout.readline())
        self.cases = [Case(stage, n, kind) for stage, count in steps.items() for n in range(1, count + 1) for kind in KINDS]

    def attempt(self, case: Case) -> dict[str, Any]:
        print(json.dumps(vars(case)), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.process.stdin.close()
    server.process.stdout.close()
    server.process.wait(60)


def wrong(server: Server, cases: list[Case]) -> list[Any]:
    """What is not as it should be; faults must fire, nearly all."""
    found = [server.attempt(case) for case in cases]
    assert sum(answer["failed"] for answer in found) > 0.7 * len(cases)
    return [answer for answer in found if answer["wrong"]]


def test_a_sample_of_writes_fails(server: Server, random: Random) -> None:
    assert {case.stage for case in server.cases} == set(CHAIN)
    assert len(server.cases) > 300
    assert wrong(server, random.sample(server.cases, SAMPLE)) == []


@pytest.mark.long
def test_every_write_fails(server: Server) -> None:
    assert wrong(server, server.cases) == []
