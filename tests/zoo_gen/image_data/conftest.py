"""The real images, where there are any."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def data_root() -> Path:
    """The folder with the real data sets."""
    if "ZOO_DATA_ROOT" not in os.environ:
        pytest.skip("ZOO_DATA_ROOT is not set")
    return Path(os.environ["ZOO_DATA_ROOT"])
