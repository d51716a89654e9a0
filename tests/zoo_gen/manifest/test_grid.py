import itertools
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_gen.manifest import Split, ZooManifest, grid
from zoo_gen.manifest.axes import Axes
from zoo_gen.manifest.split import split_sha256


def manifest(axes: dict, **split) -> ZooManifest:
    names = Axes.model_validate(axes).names
    constants = {
        "seed": 0,
        "activation": "relu",
        "initialization": "normal",
        "optimizer": "adam",
        "learning_rate": 0.1,
    }
    return ZooManifest.model_validate(
        {
            "name": "grid",
            "data": {"source": "tetris"},
            "architecture": {"name": "mlp", "widths": [16, 3, 4]},
            "training": {"epochs": 1, "batch_size": 1} | {k: v for k, v in constants.items() if k not in names},
            "axes": axes,
            "split": split,
        }
    )


def test_product_and_zip_give_the_rows_of_itertools_in_order():
    axes = {
        "product": {"activation": ["relu", "tanh"], "optimizer": ["adam", "sgd"], "seed": [3, 1, 2]},
        "zip": {"learning_rate": [0.1, 0.2], "weight_decay": [0.0, 1e-3]},
    }
    table = grid.table_of_models(manifest(axes))
    expected = [
        (activation, optimizer, seed, rate, decay)
        for activation, optimizer, seed in itertools.product(["relu", "tanh"], ["adam", "sgd"], [3, 1, 2])
        for rate, decay in zip([0.1, 0.2], [0.0, 1e-3], strict=True)
    ]
    columns = ["activation", "optimizer", "seed", "learning_rate", "weight_decay"]
    combinations = list(zip(*(table[name].to_pylist() for name in columns), strict=True))
    assert combinations == expected
    assert table["model_id"].to_pylist() == list(range(24))
    assert table["initialization"].to_pylist() == ["normal"] * 24


def test_random_draws_are_fresh_for_every_row_and_stay_in_their_bounds():
    draw = {
        "learning_rate": {"log_uniform": [1e-4, 1e-1]},
        "weight_decay": {"uniform": [0.0, 0.5]},
        "seed": {"uniform": [0, 9]},
        "activation": {"choice": ["relu", "tanh"]},
    }
    axes = {"product": {"optimizer": ["adam", "sgd"]}, "random": {"count": 2000, "seed": 1, "draw": draw}}
    table = grid.table_of_models(manifest(axes)).to_pandas()
    assert (table["optimizer"] == ["adam"] * 2000 + ["sgd"] * 2000).all()
    logs = np.log10(table["learning_rate"])
    assert -4 <= logs.min() < -3.9
    assert -1.1 < logs.max() <= -1
    assert abs(logs.mean() + 2.5) < 0.05
    assert abs(table["weight_decay"].mean() - 0.25) < 0.01
    assert set(table["seed"]) == set(range(10))
    assert abs((table["activation"] == "relu").mean() - 0.5) < 0.05
    assert (table["learning_rate"][:2000].to_numpy() != table["learning_rate"][2000:].to_numpy()).all()


def test_draws_of_one_axis_do_not_change_when_another_is_added():
    rate = {"learning_rate": {"log_uniform": [1e-4, 1e-1]}}
    alone = grid.table_of_models(manifest({"random": {"count": 50, "seed": 1, "draw": rate}}))
    decay = {"weight_decay": {"uniform": [0.0, 0.5]}}
    both = grid.table_of_models(manifest({"random": {"count": 50, "seed": 1, "draw": decay | rate}}))
    assert alone["learning_rate"].equals(both["learning_rate"])


@settings(max_examples=50)
@given(
    seeds=st.integers(1, 40),
    rates=st.integers(1, 4),
    train=st.integers(0, 10),
    validation=st.integers(0, 10),
    split_seed=st.integers(0, 5),
    group_by=st.sampled_from(["model", "configuration", "seed", "initial_weights"]),
)
def test_splits_cover_all_models_in_their_shares_and_keep_groups_whole(
    seeds, rates, train, validation, split_seed, group_by
):
    shares = {"train": train / 30, "validation": validation / 30, "test": 1 - train / 30 - validation / 30}
    axes = {"product": {"learning_rate": [10.0**-k for k in range(rates)], "seed": list(range(seeds))}}
    plain = manifest(axes, seed=split_seed, group_by=group_by, **shares)
    table = grid.table_of_models(plain)
    assert len(table) == plain.n_models == seeds * rates

    parts_of_group = defaultdict(set)
    for row in table.to_pylist():
        key = {"model": row["model_id"], "configuration": row["learning_rate"]}.get(group_by, row["seed"])
        parts_of_group[key].add(row["split"])
    assert all(len(parts) == 1 for parts in parts_of_group.values())
    parts = [next(iter(parts)) for parts in parts_of_group.values()]
    for name, share in shares.items():
        assert abs(parts.count(name) - share * len(parts)) <= 1
    assert grid.table_of_models(plain).equals(table)


def test_the_split_changes_with_its_seed_and_its_digest_says_so():
    first, second = (grid.table_of_models(manifest({"product": {"seed": list(range(99))}}, seed=s)) for s in (0, 1))
    assert not first["split"].equals(second["split"])
    assert split_sha256(first) != split_sha256(second)
    assert split_sha256(first) == split_sha256(first.take(list(reversed(range(99)))))


def test_the_shares_default_to_those_of_the_literature():
    assert (Split().train, Split().validation, Split().test) == (0.70, 0.15, 0.15)


def test_the_table_is_made_once_for_all_shards_and_anew_for_another_manifest():
    one, same, other = (manifest({"product": {"seed": seeds}}) for seeds in ([1, 2], [1, 2], [1, 3]))
    assert grid.table_of_models(one) is grid.table_of_models(same)
    assert grid.table_of_models(other)["seed"].to_pylist() == [1, 3]
    changed = one.model_copy(update={"split": Split(train=0.0, validation=0.0, test=1.0)})
    assert grid.table_of_models(changed)["split"].to_pylist() == ["test", "test"]


def test_only_the_optimizer_of_that_name_has_momentum_unless_a_manifest_names_one():
    optimizers = ["sgd", "momentum", "adam"]
    table = grid.table_of_models(manifest({"product": {"optimizer": optimizers, "seed": [1, 2]}}))
    assert table["momentum"].to_pylist() == [0.0, 0.0, 0.9, 0.9, 0.0, 0.0]
    named = grid.table_of_models(manifest({"product": {"optimizer": optimizers, "momentum": [0.5]}}))
    assert named["momentum"].to_pylist() == [0.5] * 3


def test_an_axis_of_one_value_does_not_vary():
    axes = Axes.model_validate(
        {
            "product": {"seed": {"range": [1, 3]}, "activation": ["relu"]},
            "zip": {"optimizer": ["adam", "adam"], "weight_decay": [0.0, 0.1]},
            "random": {
                "count": 2,
                "seed": 0,
                "draw": {"dropout": {"choice": [0.1]}, "learning_rate": {"log_uniform": [1e-4, 1e-2]}},
            },
        }
    )
    assert axes.varying == ["seed", "weight_decay", "learning_rate"]
