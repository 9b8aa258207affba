"""A lone job of a workflow uses all its cores; one of several what it was given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesaopt.process import idle
from mesaopt.process.idle import VARIABLE, threads_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are counted in /proc")

SOURCES = Path(idle.__file__).parents[2]
#: a workflow that starts one job, which is the test's; then a second one from another thread, and ends that
WORKFLOW = """
import os, subprocess, sys, threading
os.environ["MESAOPT_WORKFLOW"] = f"{os.getpid()} {sys.argv[1]}"
job = subprocess.Popen([sys.executable, "-c", sys.argv[2]], close_fds=False)
others = []
for line in sys.stdin:
    if line == "start\\n":
        thread = threading.Thread(target=lambda: others.append(subprocess.Popen(["sleep", "60"])))
        thread.start()
        thread.join()
    elif line == "end\\n":
        others[-1].kill()
        others.pop().wait()
    os.write(int(sys.argv[3]), b"x")
job.wait()
"""
JOB = """
import os
from mesaopt.process import idle
idle._LOOK_SECONDS = 0.0
usable = idle.threads_of(1)
while os.read(%d, 1) == b"x":
    os.write(%d, bytes([usable()]))
"""


@pytest.mark.parametrize(("cores", "expected"), [(2, [2, 1, 2]), (1, [1, 1, 1])])
def test_a_job_uses_all_cores_while_it_is_the_only_one(cores, expected):
    asks, asked = os.pipe()
    answers, answered = os.pipe()
    job = JOB % (asks, answered)
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    workflow = subprocess.Popen(
        [sys.executable, "-c", WORKFLOW, str(cores), job, str(asked)],
        stdin=-1, text=True, env=environment, pass_fds=(asks, asked, answered),
    )  # fmt: skip
    found = []
    for said in ("look", "start", "end"):
        print(said, file=workflow.stdin, flush=True)
        found.append(os.read(answers, 1)[0])
    assert found == expected
    os.write(asked, b"e")
    workflow.communicate()


def test_without_a_workflow_a_job_uses_what_it_was_given(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert threads_of(3)() == 3
    monkeypatch.setenv(VARIABLE, "999999999 8")
    assert threads_of(3)() == 3, "a workflow that is not there any more"
