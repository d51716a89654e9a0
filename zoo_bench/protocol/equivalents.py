"""The tests of the robustness protocol: test models in place of which others stand that compute the same function.

A change that leaves some models as they are, as positive factors leave those of tanh, is tested on the others alone,
and compared with the same models as trained. Draws follow from the model, so that every encoder meets the same.
"""

from dataclasses import replace

import numpy as np

from zoo_bench.protocol.parts import Test, among, models_of
from zoo_gen.architecture.symmetry_group import HOMOGENEOUS, ODD
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Equivalent, ZooView, symmetries_of

AS_TRAINED = "as trained"
CHANGES = {
    "hidden units reordered": Equivalent(orders=True),
    "rescaled by 1 to 10": Equivalent(scales=(1, 10)),
    "rescaled by 1 to 1000": Equivalent(scales=(1, 1000)),
    "signs flipped": Equivalent(flips=True),
    "hidden units split": Equivalent(splits=True),
}


_ABLE = {  # what the models have that a change can change
    "hidden units reordered": "of those with hidden units",
    "rescaled by 1 to 10": "of those that can be rescaled",
    "rescaled by 1 to 1000": "of those that can be rescaled",
    "signs flipped": "of those with signs to flip",
    "hidden units split": "of those that can be split",
}


def baseline(condition: str) -> str:
    """Return the condition that a changed one is compared with, where only some models can be changed so.

    >>> baseline("rescaled by 1 to 1000")
    'as trained, of those that can be rescaled'
    """
    return f"{AS_TRAINED}, {_ABLE[condition]}"


def equivalent_tests(test: Test) -> tuple[Test, ...]:
    """Return a test's models as trained, and each change of them that some can undergo."""
    tests = [replace(test, condition=AS_TRAINED)]
    for condition, equivalent in CHANGES.items():
        chosen = [among(view, _able(view, equivalent)) for view in test.views]
        views = tuple(view for view in chosen if len(view.models))
        if not views:
            continue
        if len(models_of(views)) < len(models_of(test.views)) and all(
            each.condition != baseline(condition) for each in tests
        ):
            tests.append(Test(test.zoo, views, baseline(condition)))
        changed = tuple(replace(view, equivalent=equivalent) for view in views)
        tests.append(Test(test.zoo, changed, condition))
    return tuple(tests)


def _able(view: ZooView, equivalent: Equivalent) -> np.ndarray:
    """Return the ids of the models of a view that a change can change."""
    try:
        forward = view.forward_pass
        if equivalent.splits:
            equivalent.network(forward.network)
    except ZooError:
        forward = None
        if equivalent.splits:
            return view.models[:0]
    group = symmetries_of(view.layout, forward, len(view.models))
    if equivalent.orders:
        return view.models if view.layout.symmetries else view.models[:0]
    if equivalent.splits:
        return view.models
    return view.models[group.rows_with(ODD if equivalent.flips else HOMOGENEOUS)]
