"""The README and docs/ name only commands, options, files, modules and targets that exist, and their code parses."""

import ast
import importlib
import importlib.util
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from zoo_bench.cli import main as zoo_bench
from zoo_gen.cli.main import main as zoo_gen

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
COMMANDS = {"zoo-gen": zoo_gen, "zoo-bench": zoo_bench}
OF_OTHERS = {"--gres", "--check", "--nproc-per-node", "--no-python", "--junitxml"}  # Slurm, sha256sum, torchrun, pytest
CACHES = {"zoo_gen/data", "zoo_gen/published"}  # in the user's cache folder
SCRIPTS = "".join(
    path.read_text() for folder in ("benchmarks", "reliability") for path in (ROOT / "tests" / folder).glob("*.py")
)

every_page = pytest.mark.parametrize("page", PAGES)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    return [code for name, code in fences if name == language]


def spans(page: str) -> list[str]:
    """Return what stands between backticks in the text, outside of code blocks."""
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def lines(page: str) -> Iterator[list[str]]:
    """Yield the words of each line of shell that a page shows, without comments."""
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


def command_of(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """Return the command of ours that a line calls, and the words after its name."""
    at = next((place for place, word in enumerate(words) if word in COMMANDS), None)
    if at is None or len(words) == at + 1:
        return None
    group, (name, *rest) = COMMANDS[words[at]], words[at + 1 :]
    assert name in group.commands, f"{words[at]} has no command {name!r}; it has {', '.join(group.commands)}"
    return group.commands[name], rest


def options_of(command: click.Command) -> set[str]:
    return {"--help"}.union(*(parameter.opts + parameter.secondary_opts for parameter in command.params))


@cache
def all_options() -> set[str]:
    return set().union(*(options_of(command) for group in COMMANDS.values() for command in group.commands.values()))


@every_page
def test_every_line_of_shell_is_one_that_our_commands_take(page):
    for words in lines(page):
        if command_found := command_of(words):
            command, rest = command_found
            rest = [re.sub(r"\$SLURM_ARRAY_TASK_\w+", "1", word) for word in rest]
            with command.make_context(command.name, rest):  # parses; runs nothing
                pass


@every_page
def test_every_command_in_the_text_exists_with_its_options(page):
    for span in spans(page):
        words = span.split()
        if command_found := command_of(words):
            command, rest = command_found
            named = {word.strip("[]").partition("=")[0] for word in rest if word.strip("[").startswith("--")}
            assert named <= options_of(command) | OF_OTHERS, span
        elif not set(words) & set(COMMANDS):
            for word in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
                assert word in all_options() | OF_OTHERS or f'"{word}"' in SCRIPTS, span


@every_page
def test_every_target_of_make_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = [words for words in [*lines(page), *(span.split() for span in spans(page))] if words[:1] == ["make"]]
    for words in shown:
        assert {word for word in words[1:] if "=" not in word} <= targets, words


@every_page
def test_every_python_and_toml_block_parses(page):
    for code in blocks(page, "python"):
        ast.parse(code)
    for code in blocks(page, "toml"):
        tomllib.loads(code)


def stands_for_names(path: str) -> bool:
    return re.search(r"[A-Z]{3}", path) is not None and not path.endswith(".md")


@every_page
def test_every_file_and_folder_exists(page):
    files = [path for top in ("zoo_gen", "zoo_bench", "tests", "docs") for path in (ROOT / top).rglob("*.py")]
    tails = {"/".join(path.parts[-depth:]) for path in files for depth in range(1, 6)}
    for span in spans(page):
        for name in re.findall(r"[\w/]+\.py\b", span):
            assert name in tails, f"there is no {name}"
        for name in re.findall(r"(?<![\w/.-])(?:zoo_gen|zoo_bench|tests|docs|manifests)/[\w./*-]*", span):
            if not stands_for_names(name) and name not in CACHES:
                assert list(ROOT.glob(name.rstrip("/"))), f"there is no {name}"


@every_page
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, heading = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        linked = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert linked.exists(), f"there is no {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            anchors = set[str]()
            for title in titles:  # of those that are alike, the later have a number
                anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
                several = (f"{anchor}-{number}" for number in itertools.count(1))
                anchors.add(anchor if anchor not in anchors else next(each for each in several if each not in anchors))
            assert heading in anchors, f"there is no heading {target}"


@every_page
def test_every_module_and_name_of_python_exists(page):
    for name in set(re.findall(r"(?<![\w./-])(?:zoo_gen|zoo_bench|tests)(?:\.\w+)+", PAGES[page])):
        module, missing = name, []
        while not _is_module(module):
            module, _, last = module.rpartition(".")
            missing.insert(0, last)
        value = importlib.import_module(module)
        for attribute in missing:
            assert hasattr(value, attribute), f"{module} has no {attribute}"
            value = getattr(value, attribute)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what should be its package is none
        return False


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DURATION = re.compile(rf"\b(\d+|{'|'.join(NUMBERS)}) (min|minutes?|h|hours?)\b", re.IGNORECASE)


def minutes(text: str) -> set[int]:
    """Return the durations that a text names."""
    named = DURATION.findall(" ".join(text.lower().split()))
    counts = ((int(number) if number.isdigit() else NUMBERS.index(number), unit) for number, unit in named)
    return {count * (60 if unit.startswith("h") else 1) for count, unit in counts}


def durations(text: str, target: str) -> set[int]:
    """Return how many minutes a page says a target of the Makefile takes.

    On the line that names it, or else in the first paragraph after the code block that the line is of.
    """
    named = set[int]()
    for match in re.finditer(rf"^.*\bmake {target}(?![\w-]).*$", text, re.MULTILINE):
        is_code = f"\n{text[: match.start()]}".count("\n```") % 2 == 1
        after = re.split(r"^```$", text[match.end() :], maxsplit=1, flags=re.MULTILINE)[-1].strip() if is_code else ""
        named |= minutes(match[0]) or minutes(after.split("\n\n")[0])
    return named


TARGETS = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS)
def test_no_two_pages_say_that_a_target_takes_different_times(target):
    named = {page: durations(text, target) for page, text in PAGES.items()}
    assert len(set().union(*named.values())) <= 1, {page: times for page, times in named.items() if times}


def test_the_time_of_a_target_is_read_wherever_a_page_says_it():
    """As it was said twice, and differently, of `make leaderboard-small`."""
    on_the_line = "```sh\nmake quickstart\nmake leaderboard-small  # twelve encoders: 47 min on two cores\n```\n"
    below = "```sh\nmake leaderboard-small   # the page\n```\n\nThis took\n30 min, zoos included.\n\nNot 5 min.\n"
    assert durations(on_the_line, "leaderboard-small") == {47}
    assert durations(below, "leaderboard-small") == {30}
    assert durations("It ends with `make leaderboard`, in two hours.", "leaderboard") == {120}
    assert durations(on_the_line, "quickstart") == durations(below, "leaderboard") == set()
    assert durations(PAGES["README.md"], "quickstart") == {3}
