"""A number that two processes see."""

import os
import subprocess
import sys
from pathlib import Path

from mesaopt.process import share
from mesaopt.process.share import Share

SOURCES = Path(share.__file__).parents[2]
READER = """
from mesaopt.process.share import Share
seen = Share(int(input())).threads
while input() == "read":
    print(seen(), flush=True)
"""


def test_another_process_sees_what_it_is_given_while_it_runs():
    mine = Share()
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    process = subprocess.Popen(
        [sys.executable, "-c", READER], stdin=-1, stdout=-1, text=True, env=environment, pass_fds=[mine.descriptor]
    )

    def seen() -> int:
        print("read", file=process.stdin, flush=True)
        return int(process.stdout.readline())

    print(mine.descriptor, file=process.stdin, flush=True)
    assert seen() == 1
    for given, expected in ((2, 2), (0, 1), (1000, 255), (3, 3)):
        mine.give(given)
        assert seen() == mine.threads() == expected
    mine.close()
    assert seen() == 3
    process.communicate("end\n")
