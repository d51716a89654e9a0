"""Whether this machine can compile our kernels, asked without importing what compiles them."""

import importlib
from functools import cache


@cache
def can_compile() -> bool:
    """Return whether our kernels can be compiled here: llvmlite is installed and fits this machine."""
    try:
        importlib.import_module("zoo_gen.machine.vector_code")
    except (ImportError, OSError):
        return False
    return True
