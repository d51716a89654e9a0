"""What the injected faults share: small zoos made undisturbed, real runs as processes, and how two zoos differ."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests import forked, waiting
from tests.conftest import TINY, files_of
from zoo_gen import engine

# Many shards of few models, so that most moments lie in the middle of something.
MANY_SHARDS = TINY.replace("[1, 5]", "[1, 24]").replace("models_per_shard = 12", "models_per_shard = 4")
# One shard of many epochs, so that every moment lies inside of it.
ONE_SHARD = (
    TINY.replace("models_per_shard = 12", "models_per_shard = 40")
    .replace("epochs = 4", "epochs = 400")
    .replace("[axes.product]", "[checkpoints]\nepochs = [0, 1, 200, 400]\n\n[axes.product]")
)


class Outlived(Exception):
    """Processes of a run were there long after it had ended; it says which. They are killed."""


@dataclass(frozen=True)
class Outcome:
    """What a fault did in the end: a zoo that cannot be finished or whose damage is not found is lost."""

    lost: bool
    bytes_that_differ: int
    detail: str = ""


@dataclass(frozen=True)
class Zoo:
    """A manifest and the zoo that an undisturbed run makes of it."""

    manifest: Path
    folder: Path
    files: dict[str, bytes]


def make(place: Path, text: str = TINY) -> Zoo:
    """Make a zoo undisturbed."""
    place.mkdir(parents=True, exist_ok=True)
    manifest = place / "tiny.toml"
    manifest.write_text(text)
    engine.run(manifest, place / "tiny", workers=1)
    return Zoo(manifest, place / "tiny", files_of(place / "tiny"))


def outcome(zoo: Zoo, folder: Path, *, lost: bool = False, detail: str = "") -> Outcome:
    """Compare a folder with the undisturbed zoo, byte for byte, in every file that either has."""
    return compare(zoo, files_of(folder), lost=lost, detail=detail)


def compare(zoo: Zoo, content: dict[str, bytes], *, lost: bool = False, detail: str = "") -> Outcome:
    """Compare files with those of the undisturbed zoo."""
    differ = 0
    for name in sorted({*content, *zoo.files}):
        one, other = content.get(name, b""), zoo.files.get(name, b"")
        same = sum(a == b for a, b in zip(one, other, strict=False)) if one != other else len(one)
        # An empty file that only one of them has is a difference too.
        differ += max(len(one), len(other)) - same + ((name in content) != (name in zoo.files))
    return Outcome(lost or differ > 0, differ, detail)


def start(
    zoo: Zoo,
    folder: Path | str,
    *,
    workers: int = 1,
    options: tuple[str, ...] = (),
    prefix: tuple[str, ...] = (),
    fresh: bool = False,
) -> forked.Process:
    """Start `zoo-gen run` in a process group of its own.

    Words before the command (`prefix`) need a fresh interpreter, as does who wants to meet one that is starting.
    """
    arguments = ["run", str(zoo.manifest), "--out", str(folder), "--workers", str(workers), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Output goes to a file: orphans would keep a pipe open.
    with (zoo.manifest.parent / "said").open("w") as output:
        if not (prefix or fresh):
            return forked.start("zoo_gen", arguments, output=output, folder=Path.cwd(), environment=environment)
        command = [*prefix, sys.executable, "-m", "zoo_gen", *arguments]
        return subprocess.Popen(
            command, stdout=output, stderr=output, text=True, start_new_session=True, env=environment
        )


def wait(process: forked.Process) -> int:
    """Wait for a run and for all its processes; return its exit code."""
    code = process.wait(waiting.LIMIT)
    # A worker that is still starting ends when it is ready to be told, which is late on a busy machine.
    with suppress(TimeoutError):
        waiting.until(lambda: not group_of(process), pause=0.1)
    if remaining := group_of(process):
        description = "\n".join(describe(pid) for pid in remaining)
        for pid in remaining:
            kill(pid)
        raise Outlived(description)
    return code


def gave_up(zoo: Zoo) -> bool:
    """Say whether the last run ended with the line about a shard whose worker died each time."""
    return "died three times" in (zoo.manifest.parent / "said").read_text()


def describe(pid: int) -> str:
    """Return what a process is, and where each of its threads waits: the call in the kernel, and that of its system."""
    command = ["ps", "-o", "pid,ppid,stat,etime,args", "-p", str(pid)]
    lines = [subprocess.run(command, capture_output=True, text=True, check=False).stdout]
    with suppress(OSError):
        for thread in sorted(Path(f"/proc/{pid}/task").iterdir()):
            texts = []
            for name in ("comm", "wchan", "syscall"):
                with suppress(OSError):  # some need rights
                    texts.append((thread / name).read_text().strip())
            lines.append(" ".join(texts))
        lines += [f"{file.name} -> {file.readlink()}" for file in sorted(Path(f"/proc/{pid}/fd").iterdir())]
    return "\n".join(lines)


def group_of(process: forked.Process) -> list[int]:
    """Return the processes of a run that are alive, the driver and the tracker of its semaphores left out."""
    # Whole commands (ww): where readline was imported, which pytest does, lines end at 80 columns without it.
    command = ["ps", "-eww", "-o", "pid,pgid,stat,args"]
    completed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = (line.split(maxsplit=3) for line in completed.splitlines()[1:])
    return [
        int(pid)
        for pid, group, state, command in rows
        if int(group) == process.pid and int(pid) != process.pid and not state.startswith("Z")
        if "resource_tracker" not in command and not command.startswith("[")  # one that is ending has no command
    ]


def kill(pid: int, *, group: bool = False) -> None:
    """Send SIGKILL to a process, or to its whole group; it may be gone by itself."""
    with suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)
