"""What newcomers give in place of a folder, an encoder, a seed or a device is answered in one line, whatever it is."""

import numpy as np
import pandas as pd
import pytest

import zoo_bench
from zoo_bench import Runtime
from zoo_gen import ZooError

ANYTHING = [3, None, 1.5, b"results", {"a": 1}, {3}, ["results"], pd.Series(["a", "b"])]
CALLS = {
    "load_results": zoo_bench.load_results,
    "leaderboard": zoo_bench.leaderboard,
    "make_encoder": zoo_bench.make_encoder,
    "device": lambda given: Runtime(device=given),
    "device of evaluate": lambda given: zoo_bench.evaluate("pca", "nowhere", device=given),
    "seeds": lambda given: zoo_bench.evaluate("pca", "nowhere", seeds=given),
    "ranges": lambda given: zoo_bench.tune("pca", "nowhere", trials=1, ranges=3 if given is None else given),
    "range of a setting": lambda given: zoo_bench.tune("pca", "nowhere", trials=1, ranges={"dimension": given}),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("given", ANYTHING, ids=lambda given: type(given).__name__)
def test_what_does_not_fit_is_one_line(tmp_path, monkeypatch, call, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError) as error:
        CALLS[call](given)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", ["0", None, 1.5, [1], -1, 2**32])
def test_a_seed_that_is_no_number_is_one_line(tiny_zoo, seed):
    with pytest.raises(ZooError, match=r"seed .*: expected a whole number from 0"):
        zoo_bench.fit("weight_statistics", tiny_zoo, seed=seed)


def test_a_seed_may_be_numpys(tiny_zoo):
    for encoder in ("pca", "mlp[steps=2]"):
        zoo_bench.fit(encoder, tiny_zoo, seed=np.int64(1), device="cpu")
    assert zoo_bench.make_encoder(np.str_("pca")).config == {"dimension": 50}


@pytest.mark.parametrize("device", ["cup", "gpu", "cuda:", "cuda:a", "CPU", ""])
def test_a_device_that_is_none_is_refused_also_where_no_network_trains(tiny_zoo, device):
    with pytest.raises(ZooError, match=f"device '{device}': expected cpu, cuda"):
        zoo_bench.fit("weight_statistics", tiny_zoo, device=device)
