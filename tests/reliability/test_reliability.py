"""Kills and faults in the normal run; `make reliability` is the long form, and prints a table."""

import random

import pytest

from tests.reliability.faults import FAULTS, CannotMount
from tests.reliability.kills import TARGETS, kills, kills_inside

RUNS = {"one bit of any file flipped": 12, "any file truncated": 6, "any file missing": 6, "stale temporary files": 3}
RUNS["two runs on one folder at once"] = 0  # engine/test_driver.py has the short form


# The next test has the quick form, with one worker; engine/test_driver.py kills drivers and workers of two.
@pytest.mark.parametrize(
    ("count", "fresh"),
    [pytest.param(3, False, marks=pytest.mark.thorough), pytest.param(100, True, marks=pytest.mark.slow)],
)
def test_a_run_killed_at_random_moments_resumes_to_the_same_bytes(tmp_path, many_shards, count, fresh):
    met = kills(many_shards, tmp_path, count=count, seed=count, fresh=fresh)
    assert sum(len(met[target]) for target in TARGETS) == count
    lost = {target: outcome for target in TARGETS for outcome in met[target] if outcome.lost}
    assert not lost


@pytest.mark.parametrize(
    ("count", "fresh"),
    [(1, False), pytest.param(2, False, marks=pytest.mark.thorough), pytest.param(30, True, marks=pytest.mark.slow)],
)
def test_a_run_killed_inside_of_its_only_shard_goes_on_to_the_same_bytes(tmp_path, one_shard, count, fresh):
    met = kills_inside(one_shard, tmp_path, count=count, seed=count, fresh=fresh)
    assert len(met) == count
    assert not [outcome for outcome in met if outcome.lost]


def marks_of(fault, seed):
    if seed >= RUNS.get(fault, 1):
        return [pytest.mark.slow]
    # Waits for answers that do not come; test_object_store.py has the faults that need no waiting.
    return [pytest.mark.thorough] if "object store" in fault else []


@pytest.mark.parametrize(
    ("fault", "seed"),
    [
        pytest.param(fault, seed, marks=marks_of(fault, seed))
        for fault in FAULTS
        for seed in range(10 * max(1, RUNS.get(fault, 1)))
    ],
)
def test_a_fault_is_answered_and_no_byte_differs(tmp_path, tiny, fault, seed):
    try:
        met_with = FAULTS[fault](tiny, tmp_path, random.Random(seed))
    except CannotMount:
        pytest.skip("no rights to mount a disk")
    assert (met_with.lost, met_with.bytes_that_differ) == (False, 0), met_with.detail
