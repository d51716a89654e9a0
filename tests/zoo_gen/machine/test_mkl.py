"""Products of matrices do not depend on where these lie in memory, once zoo_gen is imported before the first one."""

import os
import subprocess
import sys

from zoo_gen.machine import mkl

PROGRAM = """
import os, torch
torch.set_num_threads(1)

import zoo_gen
from zoo_gen.machine import mkl
print(os.environ["MKL_CBWR"], mkl.products_depend_on_place())
"""


def started(**environment: str) -> list[str]:
    """Return what a fresh interpreter says: the mode, and whether products depend on their place."""
    rest = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, env=rest | environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_fresh_process_multiplies_alike_wherever_matrices_lie():
    assert started() == ["AUTO", "False"]


def test_a_mode_of_the_user_stays():
    assert started(MKL_CBWR="COMPATIBLE") == ["COMPATIBLE", "False"]


def test_the_tests_themselves_multiply_alike_wherever_matrices_lie():
    assert not mkl.products_depend_on_place()


def test_a_mode_that_is_chosen_too_late_is_said_once(monkeypatch, caplog):
    mkl.warn_if_products_depend_on_place.cache_clear()
    monkeypatch.setattr(mkl, "products_depend_on_place", lambda: True)
    mkl.warn_if_products_depend_on_place()
    mkl.warn_if_products_depend_on_place()
    mkl.warn_if_products_depend_on_place.cache_clear()
    (line,) = caplog.messages
    assert "import zoo_gen first, or set MKL_CBWR" in line


def test_nothing_is_said_otherwise(monkeypatch, caplog):
    mkl.warn_if_products_depend_on_place.cache_clear()
    monkeypatch.setattr(mkl, "products_depend_on_place", lambda: False)
    mkl.warn_if_products_depend_on_place()
    mkl.warn_if_products_depend_on_place.cache_clear()
    assert not caplog.messages
