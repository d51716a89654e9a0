"""Layouts of the networks of the paper, by hand, for tests that need no zoo."""

from zoo_gen.layout import Parameter, ParameterLayout


def layout_of(*layers: tuple[int, ...], bias: bool = True) -> ParameterLayout:
    """Return the layout of layers that follow one another, from the shapes of their weights."""
    parameters: list[Parameter] = []
    for number, shape in enumerate(layers, start=1):
        kind = "convolution" if len(shape) == 4 else "linear"
        for role, size in (("weight", shape), ("bias", shape[:1])) if bias else (("weight", shape),):
            start = parameters[-1].stop if parameters else 0
            parameters.append(Parameter(f"{kind}{number}", role, size, start))
    return ParameterLayout(tuple(parameters))


TETRIS = layout_of((5, 16), (4, 5), bias=False)
CNN_SMALL = layout_of((8, 1, 5, 5), (6, 8, 5, 5), (4, 6, 2, 2), (20, 36), (10, 20))
SMALL_CNN_GAP = layout_of((16, 1, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (10, 16))
