import signal
import subprocess
import sys

import pytest

from tests import waiting

STUBBORN = """
import sys, time
import click
from zoo_gen.cli import command
from zoo_gen.cli.command import Commands, Resumable, keeps_nothing

command.PATIENCE = 1.0

@click.group(cls=Commands)
def main():
    pass

@main.command(cls=Resumable)
def swallow():
    wait()

@main.command()
def info():
    wait()

@main.command(cls=Resumable)
def dry():
    keeps_nothing()
    wait()

def wait():
    print("ready", flush=True)
    while True:
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:  # as a library may do
            pass

main(sys.argv[1:])
"""


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swallow", "interrupted; what is complete is kept, the same command resumes\n"),
        ("info", "interrupted\n"),  # it has nothing to resume
        ("dry", "interrupted\n"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_whose_interruption_is_swallowed_ends_all_the_same(name, message, number):
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=waiting.LIMIT)
    assert process.returncode == 128 + number  # as a shell reports a process that a signal ended
    assert errors == message
