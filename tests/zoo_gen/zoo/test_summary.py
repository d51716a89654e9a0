import re

import numpy as np

from zoo_gen.zoo.summary import Outcome


def test_a_histogram_spans_the_values_and_not_all_that_an_accuracy_may_be():
    values = np.linspace(0.958, 0.986, 400)
    sentence = Outcome("test_accuracy", values).sentence()
    assert "0.958 to 0.986, median 0.972" in sentence
    assert len(set(re.search("`(.*)`", sentence)[1])) <= 2  # equally full bars from the first to the last
    assert " " not in re.search("`(.*)`", sentence)[1]
