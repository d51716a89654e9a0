"""SHA-256 digests of encoders: of an encoder's settings and of the meaning of all code that determines it.

What counts as the meaning of code, and which files belong to an encoder, `zoo_gen.architecture.source_code` says.
"""

import hashlib
import json
from typing import Any

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.source_code import module_statements
from zoo_gen.architecture.tokens import Tokens
from zoo_gen.zoo.forward import ForwardPass

# Of the modules of zoo_gen with these classes depends what an encoder computes: permutations, tokens, forward passes.
# They are named by their classes, since this file counts too: the name of a module would change where it moves.
_OF_ZOO_GEN = (ParameterLayout, Tokens, ForwardPass)


def encoder_digest(name: str, encoder: Any) -> str:
    """Return the SHA-256 (hex) of an encoder's name, settings and source: it changes when the encoder does.

    Its source is that of its class, or of the class or function that it names as `source`.
    """
    source = getattr(encoder, "source", type(encoder))
    content = json.dumps([name, encoder.config, source_digest(source)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def source_digest(encoder: Any) -> str:
    """Return the SHA-256 (hex) of the class's or function's name and of all statements that determine it."""
    statements = {digest for digests in source_statements(encoder).values() for digest in digests}
    return hashlib.sha256(json.dumps([encoder.__qualname__, *sorted(statements)]).encode()).hexdigest()


def source_statements(encoder: Any) -> dict[str, set[str]]:
    """Return the modules that determine an encoder, name -> SHA-256 (hex) of each of their top-level statements.

    They are the module of this class or function, every module that it imports, directly or through others, from its
    own top-level package, and of `zoo_gen`, where they are imported, the parameter layout and the forward pass.
    """
    return module_statements(encoder.__module__, also={each.__module__ for each in _OF_ZOO_GEN})
