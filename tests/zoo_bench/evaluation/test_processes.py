"""The template processes that encoders start from, and what is left of them: nothing."""

import os
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading
from zoo_bench.evaluation.processes.client import Template

def start():
    template = Template.started()
    print(template._process.pid)
    if sys.argv[1] == "used":
        template.fork(torch=False).close()
        template.wait(kill=False)

thread = threading.Thread(target=start)
thread.start()
thread.join()
start()
sys.stdout.flush()
copy = os.fork()  # it has the sockets too, and outlives its driver
if copy == 0:
    os.close(1), os.close(2), signal.pause()
print(copy)
"""


@pytest.mark.parametrize("use", [pytest.param("used", marks=pytest.mark.thorough), "not used"])
def test_templates_end_with_their_thread_and_with_their_process(use):
    command = [sys.executable, "-W", "always", "-c", SCRIPT, use]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    *templates, copy = map(int, ended.stdout.split())
    os.kill(copy, signal.SIGKILL)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(templates) == 2
    for pid in templates:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
