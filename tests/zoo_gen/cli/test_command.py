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


LONG = """
import click
from zoo_gen.cli.command import Commands

@click.group(cls=Commands)
def main():
    pass

@main.command()
def show():
    for line in range(100_000):
        click.echo(line)

main(["show"])
"""


def test_a_reader_that_has_read_enough_is_no_error():
    process = subprocess.Popen([sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    process.stdout.close()  # as `head -1` does
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 1
