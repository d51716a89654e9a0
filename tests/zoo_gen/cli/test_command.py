import signal
import subprocess
import sys
import time

STUBBORN = """
import sys, time
import click
from zoo_gen import command
from zoo_gen.cli.command import Commands

command.PATIENCE = 1.0

@click.group(cls=Commands)
def main():
    pass

@main.command()
def swallow():
    print("ready", flush=True)
    for _ in range(600):
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:  # as a library may do
            pass

main(sys.argv[1:])
"""


def test_a_command_whose_interruption_is_swallowed_ends_all_the_same():
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, "swallow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130
    assert message == "interrupted; what is complete is kept, the same command resumes\n"
    assert time.monotonic() - began < 20
