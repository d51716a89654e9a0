import signal
import subprocess
import sys

import pytest

from tests import waiting

STUBBORN = """
import sys, time
import click
from zoo_gen.cli import command
from zoo_gen.cli.command import Commands

command.PATIENCE = 1.0

@click.group(cls=Commands)
def main():
    pass

@main.command()
def swallow():
    print("ready", flush=True)
    while True:
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:  # as a library may do
            pass

main(sys.argv[1:])
"""


@pytest.mark.usefixtures("interruptible")
def test_a_command_whose_interruption_is_swallowed_ends_all_the_same():
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, "swallow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=waiting.LIMIT)
    assert process.returncode == 130
    assert message == "interrupted; what is complete is kept, the same command resumes\n"
