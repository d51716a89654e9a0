"""statistics_boosting learns from every checkpoint that is tested, and predicts test accuracy from them well."""

import pytest

from zoo_bench import fit
from zoo_bench.evaluation.rows import InThisProcess, predict_views
from zoo_bench.protocol.protocols import standard_cell
from zoo_bench.protocol.targets import Target
from zoo_gen import engine, open_zoo
from zoo_gen.manifest import find_manifest


def r2_on_test_models(zoo):
    """R2 of predicted test accuracy over all checkpoints of the test models."""
    encoder = fit("statistics_boosting", zoo)
    (test,) = standard_cell(zoo).tests
    truth = Target("test_accuracy").of_rows(test.views)
    predicted = predict_views(InThisProcess("statistics_boosting", encoder), test.views)
    return 1 - ((truth - predicted) ** 2).mean() / truth.var()


@pytest.mark.slow
def test_accuracies_of_digits_hyp_are_predicted(tmp_path):
    engine.run(find_manifest("digits_hyp"), tmp_path / "digits_hyp")
    assert r2_on_test_models(open_zoo(tmp_path / "digits_hyp")) > 0.95
