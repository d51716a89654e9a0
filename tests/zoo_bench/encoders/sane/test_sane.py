"""SANE: what its embedding and its loss may depend on, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.grammar_networks import NETWORKS, architecture
from tests.zoo_bench.encoders.layouts import CNN, DEEP_CNN, PLAIN, random_view
from tests.zoo_bench.layouts import CNN_SMALL, TETRIS
from zoo_bench.encoders import encoder_names, make_encoder
from zoo_bench.encoders.sane.encoder import SANE, small
from zoo_bench.encoders.sane.network import CODE, SequenceAutoencoder, mean_code, reconstruction
from zoo_bench.encoders.sane.objective import Objective
from zoo_bench.encoders.sane.settings import SMALL, SMALL_TRAINING, Settings
from zoo_bench.encoders.sane.standardization import LAST, LayerStandardization
from zoo_bench.encoders.sane.windows import Windows
from zoo_bench.encoders.training.networks import Networks
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.views import HiddenRows, TrainingView, WeightsView, flat
from zoo_gen import open_zoo
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.architecture.tokens import TokenIndex
from zoo_gen.errors import ZooError

CPU = torch.device("cpu")
TINY = Settings(
    token=16, window=8, blocks=1, width=32, heads=2, feedforward=32, latent=8, head_width=8, head_output=4, gamma=0.1
)
SHORT = replace(SMALL_TRAINING, epochs=4, steps=40, batch_size=16)
LAYOUTS = [CNN, PLAIN, DEEP_CNN]


def small_encoder(settings=TINY, training=SHORT):
    encoder = SANE(settings=settings, training=training)
    encoder.runtime = Runtime(device="cpu")
    return encoder


def networks_of(layouts, *, count=5):
    random = np.random.RandomState(0)
    rows = [random.standard_normal((count, layout.size)).astype(np.float32) for layout in layouts]
    return Networks.of(layouts, rows, CPU)


def module_of(settings=TINY):
    torch.manual_seed(0)
    return SequenceAutoencoder(settings).eval()


@pytest.fixture(scope="module")
def views(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    parts = [TrainingView.of(zoo.view(zoo.split(part))) for part in ("train", "validation")]
    return *parts, HiddenRows.of(zoo.view(zoo.split("test"))).view


@pytest.fixture(scope="module")
def fitted(views):
    return small_encoder().fit([views[0]], [views[1]], seed=0)


@pytest.mark.parametrize("most", [3, 8, 1000])
def test_windows_are_the_tokens_of_a_loop_over_networks(most):
    networks = networks_of(LAYOUTS)
    windows = Windows(networks.layouts, size=16, most=most, device=CPU)
    layouts = torch.from_numpy(networks.layout_of)
    starts = windows.draw(layouts, torch.Generator().manual_seed(0))
    window = windows.take(layouts, networks.numbers, networks.offsets, starts)
    for number, layout in enumerate(np.repeat(np.arange(3), 5)):
        index = TokenIndex.of(LAYOUTS[layout], 16)
        start = int(networks.offsets[number])
        tokens = index.values(networks.numbers[start : start + LAYOUTS[layout].size].numpy()[None])[0]
        rows = slice(int(starts[number]), int(starts[number]) + windows.length)
        count = len(tokens[rows])
        assert count == min(windows.length, len(tokens))  # every window is full if the network has as many tokens
        np.testing.assert_array_equal(window.values[number, :count], tokens[rows])
        np.testing.assert_array_equal(window.mask[number, :count], index.mask[rows])
        np.testing.assert_array_equal(window.positions[number, :count], index.positions[rows])
        assert not window.mask[number, count:].any()
        if window.present is not None:
            assert window.present[number].tolist() == [True] * count + [False] * (windows.length - count)
        else:
            assert count == windows.length


def test_all_windows_are_equally_likely():
    windows = Windows([CNN_SMALL], size=64, most=60, device=CPU)
    starts = windows.draw(torch.zeros(7000, dtype=torch.int64), torch.Generator().manual_seed(0))
    counts = np.bincount(starts.numpy())
    assert len(counts) == 66 - 60 + 1
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize("most", [1, 7, 8, 66, 100])
def test_covering_windows_count_every_token_once(most):
    windows = Windows([CNN_SMALL], size=64, most=most, device=CPU)
    counted = [start + place for start, part in windows.covering() for place in range(66)[part]]
    assert sorted(counted) == list(range(66))
    assert all(start + windows.length <= 66 for start, _ in windows.covering())


def test_what_stands_in_padding_changes_neither_codes_nor_loss_and_has_no_gradient():
    networks = networks_of([CNN, PLAIN])
    windows = Windows(networks.layouts, size=16, most=1000, device=CPU)
    layouts = torch.from_numpy(networks.layout_of)
    window = windows.take(layouts, networks.numbers, networks.offsets, torch.zeros(10, dtype=torch.int64))
    assert not window.mask.all()
    module = module_of()
    filled = torch.where(window.mask, window.values, 1e3 * torch.randn_like(window.values)).requires_grad_()
    results = []
    for values in (window.values, filled):
        changed = window._replace(values=values)
        latent, outputs = module(changed, reconstruct=True)
        results.append((mean_code(latent, window.present), reconstruction(outputs, changed)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    (results[1][0].sum() + results[1][1]).backward()
    assert (filled.grad[~window.mask] == 0).all()
    assert (filled.grad[window.mask] != 0).any()


def test_the_error_is_the_mean_over_numbers_that_a_loop_finds():
    networks = networks_of([CNN, PLAIN])
    windows = Windows(networks.layouts, size=16, most=1000, device=CPU)
    layouts = torch.from_numpy(networks.layout_of)
    window = windows.take(layouts, networks.numbers, networks.offsets, torch.zeros(10, dtype=torch.int64))
    outputs = torch.randn_like(window.values)
    errors = []
    for number, layout in enumerate(layouts.tolist()):
        index = TokenIndex.of((CNN, PLAIN)[layout], 16)
        weights = networks.numbers[int(networks.offsets[number]) :][: (CNN, PLAIN)[layout].size].numpy()
        errors += ((index.join(outputs[number, None, : len(index.index)].numpy())[0] - weights) ** 2).tolist()
    assert reconstruction(outputs, window).item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_tokens_that_are_not_there_change_nothing():
    """A network beside a longer one has the codes that it has alone."""
    together = networks_of([PLAIN, CNN])
    codes = []
    for networks in (together, networks_of([PLAIN])):
        windows = Windows(networks.layouts, size=16, most=1000, device=CPU)
        layouts = torch.from_numpy(networks.layout_of[:5])
        window = windows.take(layouts, networks.numbers, networks.offsets[:5], torch.zeros(5, dtype=torch.int64))
        latent, _ = module_of()(window, reconstruct=False)
        codes.append(mean_code(latent, window.present))
    assert window.present is None  # alone, all are there
    torch.testing.assert_close(*codes, rtol=1e-5, atol=1e-6)


def test_an_embedding_is_the_mean_of_codes_computed_window_by_window(fitted, views):
    """Nine tokens in windows of eight: one full window, and another from which the last token alone counts."""
    view = views[2]
    module, rows = fitted._fitted.module, fitted._fitted.standardization.apply(view.layout, flat(view))
    index = TokenIndex.of(view.layout, 16)
    assert len(index.index) == 9
    tokens, codes = torch.from_numpy(index.values(rows)), []
    for start, counted in ((0, slice(0, 8)), (1, slice(7, 8))):
        windows = Windows([view.layout], size=16, most=8, device=CPU)
        part = slice(start, start + 8)
        zeros = torch.zeros(len(rows), dtype=torch.int64)
        window = windows.take(zeros, torch.zeros(rows.size), zeros, zeros + start)._replace(values=tokens[:, part])
        codes.append(module(window, reconstruct=False)[0][:, counted])
    expected = torch.cat(codes, dim=1).mean(dim=1).detach()
    np.testing.assert_allclose(fitted.encode(view), expected, rtol=1e-4, atol=1e-5)


def test_a_window_is_read_alone(fitted, views):
    """Weights of tokens outside a window do not change its codes."""
    settings, layout = fitted.settings, views[2].layout
    windows = Windows([layout], size=settings.token, most=4, device=CPU)
    rows = torch.randn(2, layout.size).contiguous()
    inside = torch.from_numpy(TokenIndex.of(layout, settings.token).index[:4].ravel())
    rows[1, inside[inside >= 0]] = rows[0, inside[inside >= 0]]
    window = windows.take(
        torch.zeros(2, dtype=torch.int64), rows.flatten(), torch.tensor([0, 100]), torch.zeros(2).long()
    )
    latent, _ = fitted._fitted.module(window, reconstruct=False)
    assert (rows[0] != rows[1]).any()
    torch.testing.assert_close(latent[0], latent[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", [TINY, SMALL, Settings()])
def test_the_number_of_parameters_follows_from_the_settings(settings):
    with torch.device("meta"):
        module = SequenceAutoencoder(settings)
    width, latent, inner, head = settings.width, settings.latent, settings.feedforward, settings.head_width
    norm = 2 * width
    block = 2 * norm + 4 * width * width + 4 * width + 2 * width * inner + inner + width
    stack = settings.blocks * block + norm + 4 * CODE * width + width
    ends = 2 * settings.token * width + width + settings.token + 2 * width * latent + width + latent
    hidden = latent * head + (settings.head_layers - 1) * head * head + settings.head_layers * 3 * head
    expected = 2 * stack + ends + hidden + head * settings.head_output + 3 * settings.head_output
    assert sum(parameter.numel() for parameter in module.parameters()) == expected


def test_layers_have_the_middle_and_spread_of_training_rows_alone(views):
    train, validation, test = views
    moved = WeightsView(100 * test.weights, test.layout, test.computing)
    shifted = replace(validation, weights=validation.weights + 7)
    encoder = small_encoder().fit([train], [shifted], seed=0)
    actual = encoder._fitted.standardization
    for layer, place in (("linear1", 1), ("linear2", LAST)):
        values = train.tensors()[layer]["weight"].ravel()
        assert actual.middle[place] == pytest.approx(np.median(values), abs=1e-6)
        low, high = np.percentile(values.astype(float), [15.87, 84.13])
        assert actual.spread[place] == pytest.approx((high - low) / 2, rel=1e-6)
    before = actual.to_json()
    encoder.encode(moved)
    assert actual.to_json() == before == LayerStandardization.from_json(before).to_json()


def test_layers_of_several_architectures_share_by_place_and_deeper_ones_have_the_deepest():
    rows = [np.full((3, layout.size), value, np.float32) for layout, value in ((PLAIN, 1.0), (CNN, 5.0))]
    both = LayerStandardization.of([PLAIN, CNN], rows)
    assert len(both.middle) == 3
    assert 1 <= both.middle[LAST] <= 5
    assert both.middle[2] == 5  # the second of three layers; the second of two is the last one
    ones = both.apply(DEEP_CNN, np.zeros((1, DEEP_CNN.size), np.float32))
    parts = {name: values[0].ravel() for name, values in DEEP_CNN.split(ones).items()}
    np.testing.assert_array_equal(parts["convolution2.weight"][:3], parts["linear1.weight"][:3])


def test_reconstruction_beats_the_mean_of_the_training_networks(views):
    train, validation, _ = views
    encoder = small_encoder(replace(TINY, latent=16, gamma=0.05), replace(SHORT, steps=300)).fit(
        [train], [validation], seed=0
    )
    fitted = encoder._fitted
    known, unseen = (fitted.standardization.apply(view.layout, flat(view)) for view in (train, validation))
    windows = Windows([train.layout], size=16, most=8, device=CPU)
    networks = Networks.of([train.layout], [unseen], CPU)
    zeros = torch.zeros(len(networks.offsets), dtype=torch.int64)
    window = windows.take(zeros, networks.numbers, networks.offsets, zeros)
    means = torch.from_numpy(TokenIndex.of(train.layout, 16).values(known.mean(axis=0, keepdims=True))[:, :8])
    with torch.no_grad():
        _, outputs = fitted.module(window, reconstruct=True)
        error, of_mean = reconstruction(outputs, window), reconstruction(means.expand_as(window.values), window)
    assert error < 0.5 * of_mean


def test_the_contrast_finds_a_network_among_others(views):
    """After training on the contrast alone, two views of a network are more alike than views of two."""
    train, validation, _ = views
    module, objective = trained(train, validation, gamma=1.0)
    before = Objective(module_of(replace(TINY, gamma=1.0)), replace(TINY, gamma=1.0), **objective)
    after = Objective(module, replace(TINY, gamma=1.0), **objective)
    assert after.score() > before.score() + 0.1
    assert after.score() == after.score()  # views that validate are the same each time


def trained(train, validation, **settings):
    encoder = small_encoder(replace(TINY, **settings), replace(SHORT, steps=150)).fit([train], [validation], seed=0)
    standardization = encoder._fitted.standardization
    parts = [Networks.of([v.layout], [standardization.apply(v.layout, flat(v))], CPU) for v in (train, validation)]
    return encoder._fitted.module, {"train": parts[0], "validation": parts[1], "batch_size": 16, "seed": 0}


def test_the_same_seed_gives_the_same_embeddings_and_another_seed_others(fitted, views):
    again, other = (small_encoder().fit([views[0]], [views[1]], seed=seed) for seed in (0, 1))
    embeddings = fitted.encode(views[2])
    np.testing.assert_array_equal(again.encode(views[2]), embeddings)
    assert (other.encode(views[2]) != embeddings).any()
    assert embeddings.std(axis=0).min() > 1e-4


def test_a_saved_encoder_encodes_as_before_and_others_are_refused(fitted, views, tmp_path):
    fitted.save(tmp_path / "sane")
    again = small_encoder().load(tmp_path / "sane")
    np.testing.assert_array_equal(again.encode(views[2]), fitted.encode(views[2]))
    assert again.parameter_count == fitted.parameter_count > 1000
    with pytest.raises(ZooError, match="was saved with other settings"):
        small_encoder(replace(TINY, latent=9)).load(tmp_path / "sane")
    with pytest.raises(ZooError, match="nothing is fitted yet"):
        small_encoder().encode(views[2])


def test_it_is_fitted_to_several_architectures_and_reads_others():
    layouts = [CNN, PLAIN, TETRIS]
    train = [random_view(layout, models=8, seed=number) for number, layout in enumerate(layouts)]
    validation = [random_view(layout, models=3, seed=7 + number) for number, layout in enumerate(layouts[:2])]
    encoder = small_encoder().fit(train, validation, seed=0)
    for layout in (*layouts, DEEP_CNN, CNN_SMALL):
        embeddings = encoder.encode(random_view(layout, models=4))
        assert embeddings.shape == (4, 8)
        assert np.isfinite(embeddings).all()


@pytest.mark.parametrize("name", ["groups", "gru over a sequence", "depthwise"])
def test_it_reads_layers_of_the_grammar(name):
    layout = network(Layers.model_validate(architecture(name)), NETWORKS[name][2], 10).layout
    views = [random_view(layout, models=6, seed=seed) for seed in range(2)]
    encoder = small_encoder(training=replace(SHORT, epochs=1, steps=2)).fit([views[0]], [views[1]], seed=0)
    assert np.isfinite(encoder.encode(views[1])).all()


def test_it_is_registered_among_those_that_mix_architectures():
    assert {"sane", "sane_small"} <= set(encoder_names(["sane", "sane_small"], protocol="cross_architecture"))
    assert "sane_small" in encoder_names(["small"], protocol="cross_architecture")
    assert make_encoder("sane").config["training"]["steps"] == 6000
    assert make_encoder("sane_small[latent=5]").config["latent"] == 5
    assert small().settings == SMALL


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": 0}, "token is 0; expected 1 or more"),
        ({"width": 30, "heads": 4}, "width 30 with heads 4"),
        ({"gamma": 2.0}, "gamma is 2.0; expected a share"),
    ],
)
def test_settings_that_make_no_encoder_are_refused(settings, message):
    with pytest.raises(ZooError, match=message):
        Settings(**settings)
