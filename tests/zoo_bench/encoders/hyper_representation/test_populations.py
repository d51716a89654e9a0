"""Which of the paper's configurations a zoo gets, against the table of the paper's scripts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.zoo_bench.layouts import CNN_SMALL, SMALL_CNN_GAP, TETRIS, layout_of
from zoo_bench import read_benchmark
from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.hyper_representation.populations import EXPERIMENTS, paper_configuration
from zoo_bench.protocol import protocols
from zoo_bench.protocol.views import TrainingView, ZooFacts
from zoo_gen import open_zoo
from zoo_gen.manifest import read_manifest, shipped_manifests
from zoo_gen.published.sources.registry import list_published_zoos

# zoo of the benchmark: network, blocks, width, heads, feed-forward, latent, hidden layers, width and output of the
# head, gamma, epochs. As the paper's scripts have them, one a zoo.
TABLE = {
    "tetris_seed": (TETRIS, 2, 256, 4, 512, 50, 3, 50, 20, 0.5, 1000),
    "tetris_hyp": (TETRIS, 2, 256, 4, 900, 50, 3, 50, 20, 0.5, 1000),
    "hyperreps_mnist_seed": (CNN_SMALL, 2, 800, 4, 900, 700, 4, 400, 50, 0.1, 500),
    "hyperreps_mnist_hyp_1_fix_seed": (CNN_SMALL, 4, 800, 2, 1000, 700, 4, 400, 50, 0.5, 500),
    "hyperreps_mnist_hyp_1_rand_seed": (CNN_SMALL, 4, 800, 2, 900, 700, 4, 400, 20, 0.15, 500),
    "hyperreps_mnist_hyp_5_fix_seed": (CNN_SMALL, 2, 800, 4, 900, 700, 4, 400, 20, 0.5, 500),
    "hyperreps_mnist_hyp_5_rand_seed": (CNN_SMALL, 4, 800, 2, 900, 500, 2, 400, 50, 0.5, 500),
    "hyperreps_fashion_seed": (CNN_SMALL, 2, 800, 4, 900, 700, 4, 400, 50, 0.1, 500),
    "small_cnn_zoo_mnist": (SMALL_CNN_GAP, 4, 512, 4, 1000, 1200, 4, 400, 50, 0.1, 200),
    "small_cnn_zoo_fashion": (SMALL_CNN_GAP, 4, 512, 4, 1000, 1200, 4, 400, 50, 0.85, 200),
    "small_cnn_zoo_svhn": (SMALL_CNN_GAP, 4, 512, 4, 1000, 1200, 4, 400, 50, 0.85, 250),
    "small_cnn_zoo_cifar10": (SMALL_CNN_GAP, 4, 512, 4, 1000, 1200, 4, 400, 50, 0.5, 250),
}


@dataclass
class FakeView:
    """What of a training view decides."""

    zoo: ZooFacts
    layout: object
    columns: dict

    def hyperparameter(self, name):
        return self.columns[name]


def sizes(configuration):
    names = "blocks width heads feedforward latent head_layers head_width head_output gamma epochs"
    return tuple(getattr(configuration, name) for name in names.split())


def of_shipped(zoo, *, name=""):
    """Return a view of a shipped zoo as its manifest describes it, under another name; nothing is trained."""
    manifest = read_manifest(shipped_manifests()[zoo])
    words = " ".join(value for value in manifest.data.model_dump().values() if isinstance(value, str))
    table = manifest.rows(slice(0, manifest.n_models))
    columns = {column: table[column].to_numpy(zero_copy_only=False) for column in manifest.varying}
    return FakeView(ZooFacts(name or zoo, (), words, tuple(manifest.varying)), manifest.layout, columns)


def test_the_table_has_the_zoos_of_the_papers_benchmark():
    assert set(TABLE) == set(read_benchmark("hyper_representations_2021").zoos)


@pytest.mark.parametrize("zoo", TABLE)
@pytest.mark.parametrize("ending", ["", "_published"])
def test_each_of_the_papers_zoos_gets_its_own_configuration(zoo, ending):
    layout, *expected = TABLE[zoo]
    configuration, reason = paper_configuration(FakeView(ZooFacts(zoo + ending, ()), layout, {}))
    assert sizes(configuration) == tuple(expected)
    assert reason == f"the paper's, for its zoo {configuration.name}"


def test_zoos_of_the_papers_record_are_known_by_the_names_they_are_pulled_under():
    published = {zoo.plain_name for zoo in list_published_zoos().values()}
    theirs = {name for name in published if name.startswith("hyper_representations_")}
    assert theirs - {name for names in EXPERIMENTS.values() for name in names} == {"hyper_representations_ablations"}


@pytest.mark.parametrize("zoo", TABLE)
def test_a_zoo_of_another_name_gets_the_configuration_of_the_paper_zoo_that_is_like_it(zoo):
    configuration, reason = paper_configuration(of_shipped(zoo, name="somebodys"))
    assert sizes(configuration) == tuple(TABLE[zoo][1:])
    assert reason.startswith(f"the paper's for {configuration.name}: ")


@pytest.mark.parametrize(
    ("layout", "name"),
    [(layout_of((4, 20)), "tetris_seed"), (layout_of((9, 300)), "mnist_seed"), (layout_of((99, 99)), "mnist_hyp")],
)
def test_a_zoo_like_none_of_the_papers_gets_a_configuration_by_size_and_says_so(layout, name):
    view = FakeView(ZooFacts("hyperreps_mnist_hyp_1_fix_seed", (), "digits", ("seed",)), layout, {"seed": np.arange(3)})
    configuration, reason = paper_configuration(view)
    assert configuration.name == name
    assert reason == f"none of the paper's zoos is like this one: by size alone, that of {name}"


def test_a_result_names_the_configuration_and_why(tiny_zoo):
    cell = protocols.standard_cell(open_zoo(tiny_zoo))
    train, validation = (TrainingView.of(part[0]) for part in (cell.train, cell.validation))
    configuration, reason = paper_configuration(train)
    assert (configuration.name, train.zoo.data) == ("tetris_hyp", "tetris")
    encoder = make_encoder("hyper_representation_small")
    encoder.configuration = replace(encoder.configuration, epochs=1, steps=2)
    encoder.fit([train], [validation], seed=0)
    assert encoder.config["fitted"]["tiny"]["chosen"] == "given"
    assert reason.startswith("the paper's for tetris_hyp: ")
