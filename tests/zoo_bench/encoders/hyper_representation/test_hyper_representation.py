import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.zoo_bench.encoders.hyper_representation.attended import formula, gradients, operands
from tests.zoo_bench.encoders.two_processes import in_two_processes
from tests.zoo_bench.layouts import CNN_SMALL, SMALL_CNN_GAP, TETRIS, layout_of
from zoo_bench.encoders import encoder_digest, make_encoder
from zoo_bench.encoders.hyper_representation import attention, losses
from zoo_bench.encoders.hyper_representation.augment import Augmentation, Permutations
from zoo_bench.encoders.hyper_representation.configurations import PAPER, SMALL
from zoo_bench.encoders.hyper_representation.dropout import dropout
from zoo_bench.encoders.hyper_representation.encoder import HyperRepresentation
from zoo_bench.encoders.hyper_representation.network import Autoencoder, Norm
from zoo_bench.encoders.hyper_representation.objective import Objective
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.views import ZooFacts
from zoo_gen import open_zoo
from zoo_gen.architecture.tokens import Tokens
from zoo_gen.errors import ZooError

LOSSES = ["E_cD", "E_c", "ED", "E_c+D"]
TINY = replace(
    SMALL, steps=None, width=16, feedforward=24, latent=8, head_width=8, head_output=6, epochs=3, batch_size=40
)

# Encoder, decoder and head of every experiment of the paper's public code.
COUNTS = {
    "tetris_seed": (1_075_762, 1_179_413, 9_010),
    "tetris_hyp": (1_473_850, 1_577_501, 9_010),
    "mnist_seed": (8_868_900, 35_221_310, 784_950),
    "mnist_hyp_1_fix_seed": (17_525_500, 43_877_910, 784_950),
    "mnist_hyp_1_rand_seed": (16_885_100, 43_237_510, 772_860),
    "mnist_hyp_5_fix_seed": (8_868_900, 35_221_310, 772_860),
    "mnist_hyp_5_rand_seed": (16_724_900, 35_557_510, 382_550),
    "fashion_seed": (8_868_900, 35_221_310, 784_950),
    "mnist_hyp": (9_123_408, 44_169_949, 984_950),
    "fashion_hyp": (9_123_408, 44_169_949, 984_950),
    "svhn_hyp": (9_123_408, 44_169_949, 984_950),
    "cifar10_hyp": (9_123_408, 44_169_949, 984_950),
}
LAYOUTS = {layout.size: layout for layout in (TETRIS, CNN_SMALL, SMALL_CNN_GAP)}


def autoencoder(layout=TETRIS, configuration=TINY) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(Tokens.of(layout), configuration)


def objective(module, loss, *, weights, augmentation=None, layout=TETRIS, target="augmented", configuration=TINY):
    return Objective(
        module,
        loss,
        train=weights,
        validation=weights,
        configuration=configuration,
        augmentation=augmentation or Augmentation(),
        permutations=Permutations(layout, torch.device("cpu")),
        target=target,
        seed=0,
    )


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_configurations_have_the_papers_numbers_of_parameters(name):
    with torch.device("meta"):
        module = Autoencoder(Tokens.of(LAYOUTS[PAPER[name].parameters]), PAPER[name])
    parts = (module.encoder, module.decoder, module.head)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == COUNTS[name]


def brute_force_nt_xent(first, second, temperature):
    views = [*first, *second]
    total = 0.0
    for i, anchor in enumerate(views):
        cosines = [float(anchor @ view) / (float(anchor.norm()) * float(view.norm())) for view in views]
        positive = (i + len(first)) % len(views)
        others = [math.exp(c / temperature) for j, c in enumerate(cosines) if j != i]
        total -= math.log(math.exp(cosines[positive] / temperature) / sum(others))
    return total / len(views)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_contrast_is_nt_xent_written_as_a_loop(temperature):
    first, second = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = brute_force_nt_xent(first, second, temperature)
    assert losses.nt_xent(first, second, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_the_contrast_has_its_values_at_the_extremes():
    rows = torch.eye(16)
    assert losses.nt_xent(rows[:8], rows[8:], 0.1).item() == pytest.approx(math.log(15), rel=1e-6)
    aligned = losses.nt_xent(rows[:8], rows[:8], 0.1).item()
    assert aligned == pytest.approx(math.log(1 + 14 * math.exp(-10)), rel=1e-3)


def test_the_positive_contrast_falls_as_views_align():
    """The public code's rises: it takes cosines to 0."""
    angles = torch.linspace(math.pi, 0, 20)
    first = torch.tensor([[1.0, 0.0]])
    actual = [losses.positive_contrast(first, torch.tensor([[a.cos(), a.sin()]])).item() for a in angles]
    assert actual == sorted(actual, reverse=True)
    assert actual[0] == pytest.approx(2, abs=1e-5)
    assert actual[-1] == pytest.approx(0, abs=1e-5)


def test_training_on_the_positive_contrast_takes_cosines_to_one():
    pair = torch.randn(2, 6, 4, requires_grad=True)
    optimizer = torch.optim.Adam([pair], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        losses.positive_contrast(*pair).backward()
        optimizer.step()
    assert functional.cosine_similarity(*pair, dim=1).min() > 0.99


@pytest.mark.parametrize("n_queries", [0, 1])
def test_attention_that_drops_weights_is_the_formula_with_these_weights_dropped(n_queries):
    projected, queries = operands(3, n_queries, 7, 2, 16)
    torch.manual_seed(11)
    factors = dropout(torch.ones(3, 2, n_queries or 7, 7), 0.3)
    assert 0 < (factors == 0).sum() < factors.numel() / 2

    def attend(projected, queries):
        torch.manual_seed(11)
        return attention.attend(projected, queries=queries, heads=2, dropout=0.3, has_kernels=False)

    actual = gradients(attend, projected, queries)
    expected = gradients(lambda *tensors: formula(*tensors, 2, factors), projected, queries)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_in_bfloat16_drops_the_same_entries_and_has_nearly_the_gradients_of_float32():
    torch.manual_seed(0)
    module = Autoencoder(Tokens.of(TETRIS), PAPER["tetris_hyp"])
    weights = torch.randn(16, TETRIS.size)
    slopes = []
    for bfloat16, seed in ((False, 1), (True, 1), (False, 2)):
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            embeddings, actual = module(weights, reconstruct=True)
        loss = embeddings.square().mean() + (actual - weights).square().mean()
        slopes.append(
            torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, [*module.encoder.parameters()])])
        )
    float32, bfloat16, drawn_anew = slopes
    assert 0 < (bfloat16 - float32).norm() < 0.03 * float32.norm()
    assert (drawn_anew - float32).norm() > 0.1 * float32.norm()


def test_normalisation_is_by_the_unbiased_deviation():
    inputs = 3 * torch.randn(4, 5, 12) + 1
    norm = Norm(12)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    deviation = inputs.std(dim=-1, keepdim=True)  # unbiased
    expected = norm.weight * (inputs - inputs.mean(-1, keepdim=True)) / (deviation + 1e-6) + norm.bias
    torch.testing.assert_close(norm(inputs)[1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 6, 40_003])
def test_dropout_keeps_the_mean_and_zeroes_the_share(size):
    torch.manual_seed(0)
    actual = dropout(torch.ones(size, requires_grad=True), 0.1)
    assert set(actual.unique().tolist()) <= {0.0, actual.max().item()}
    if size > 1000:
        assert (actual == 0).float().mean().item() == pytest.approx(0.1, abs=0.006)
        assert actual.mean().item() == pytest.approx(1, abs=0.006)
        neighbours = torch.stack([actual[:-1], actual[1:]]).detach()
        assert torch.corrcoef(neighbours)[0, 1].item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("blocks", "feedforward"), [(1, 16), (2, 16), (2, 13)])
def test_an_encoding_is_what_the_same_sums_written_out_give(blocks, feedforward):
    """Two heads, in plain matrix products, from the parameters of the module."""
    configuration = replace(TINY, blocks=blocks, heads=2, feedforward=feedforward)
    encoder = autoencoder(configuration=configuration).encoder.eval()
    weights = torch.randn(3, 100)
    tokens = [
        weights[:, 16 * n : 16 * (n + 1)] @ encoder.embeddings[0].weight.T + encoder.embeddings[0].bias
        for n in range(5)
    ]
    tail = weights[:, 80:]
    tokens += [
        tail[:, 5 * n : 5 * (n + 1)] @ encoder.embeddings[1].weight.T + encoder.embeddings[1].bias for n in range(4)
    ]
    x = torch.stack([encoder.compression.expand(3, -1), *tokens], dim=1) + encoder.positions
    for block in encoder.blocks:
        q, k, v = block.queries_keys_values(block.norm_attention(x)[1]).split(16, dim=2)
        heads = []
        for part in (slice(0, 8), slice(8, 16)):
            attention = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(8)).softmax(dim=2)
            heads.append(attention @ v[..., part])
        x = x + block.attended(torch.cat(heads, dim=2))
        x = x + block.narrow(block.widen(block.norm_feedforward(x)[1]).clamp(min=0))
    torch.testing.assert_close(encoder(weights), encoder.bottleneck(x[:, 0]).tanh(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_reach_every_part_that_the_loss_uses(loss):
    module = autoencoder(CNN_SMALL).train()
    weights = torch.randn(12, CNN_SMALL.size)
    generator = torch.Generator().manual_seed(0)
    objective(module, loss, weights=weights, layout=CNN_SMALL).loss(torch.arange(12), generator).backward()
    left_out = {"E_c": "decoder", "ED": "head"}.get(loss, "nothing")
    for name, parameter in module.named_parameters():
        if name.startswith(left_out):
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name


def test_the_loss_weighs_contrast_and_reconstruction_by_gamma():
    """Written out from the parts, with views that are the weights themselves."""
    module = autoencoder(configuration=replace(TINY, gamma=0.3)).eval()
    weights = torch.randn(10, 100)
    actual = objective(
        module,
        "E_cD",
        weights=weights,
        augmentation=Augmentation(permute=False, erase=0.0),
        configuration=replace(TINY, gamma=0.3),
    ).loss(torch.arange(10), torch.Generator())
    with torch.no_grad():
        embeddings = module.encoder(weights)
        flat = module.decoder(embeddings)[:, np.argsort(Tokens.of(TETRIS).order)]
        head = module.head(embeddings)
    expected = 0.3 * brute_force_nt_xent(head, head, 0.1) + 0.7 * ((flat - weights) ** 2).mean().item()
    assert actual.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", ["E_cD", pytest.param("E_c+D", marks=pytest.mark.thorough)])
def test_all_behind_the_views_compiles_as_one_graph_with_the_same_gradients(loss):
    views = torch.randn(2 * 12, 100)

    def computed(compiled):
        module = autoencoder().train()
        comparison = objective(module, loss, weights=views).comparison
        act = torch.compile(comparison, backend="aot_eager", fullgraph=True, dynamic=False) if compiled else comparison
        value = act(views, views)
        value.backward()
        return [value.detach(), *(p.grad for p in module.parameters()), *module.buffers()]

    for one, other in zip(computed(compiled=True), computed(compiled=False), strict=True):
        torch.testing.assert_close(one, other)


def test_the_target_is_the_view_as_given_or_the_clean_one():
    module = autoencoder().eval()
    for parameter in module.decoder.parameters():
        torch.nn.init.zeros_(parameter)  # reconstructs 0
    weights = torch.ones(200, 100)
    erased = Augmentation(permute=False, erase=1.0)
    actual = {
        target: objective(module, "ED", weights=weights, augmentation=erased, target=target)
        .loss(torch.arange(200), torch.Generator().manual_seed(0))
        .item()
        for target in ("augmented", "clean")
    }
    assert actual["clean"] == pytest.approx(1.0)
    assert actual["augmented"] == pytest.approx(1 - 0.16, abs=0.01)


def test_the_validation_score_is_the_same_each_time_and_leaves_batch_statistics_alone():
    module = autoencoder()
    weights = torch.randn(90, 100)
    scorer = objective(module, "E_cD", weights=weights)
    module.train()
    scorer.loss(torch.arange(30), torch.Generator()).backward()
    module.eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.no_grad():
        assert scorer.score() == scorer.score()
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def tiny(loss="E_cD", **options) -> HyperRepresentation:
    encoder = HyperRepresentation(loss=loss, configuration=TINY, **options)
    encoder.runtime = Runtime(device="cpu")
    return encoder


@pytest.fixture(scope="module")
def views(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    return [zoo.view(zoo.split(part)) for part in ("train", "validation", "test")]


@pytest.mark.parametrize("loss", LOSSES)
def test_training_lowers_the_loss_and_embeddings_are_rows_inside_the_cube(views, loss):
    encoder = tiny(loss).fit([views[0]], [views[1]], seed=0)
    actual = encoder.encode(views[2])
    assert actual.shape == (8 * 5, TINY.latent)
    assert actual.dtype == np.float32
    assert np.abs(actual).max() < 1
    assert encoder.history.epochs[-1]["train_loss"] < encoder.history.epochs[0]["train_loss"]
    np.testing.assert_allclose(actual[7], encoder.encode(views[2].zoo.view(views[2].models[1:2]))[2], atol=1e-6)


def test_the_same_seed_gives_the_same_embeddings_and_another_seed_others(views):
    first, second, other = (tiny().fit([views[0]], [views[1]], seed=s).encode(views[2]) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.1


def test_an_interrupted_fit_goes_on_to_the_same_encoder(views, tmp_path, monkeypatch):
    undisturbed = tiny().fit([views[0]], [views[1]], seed=3).encode(views[2])
    encoder = tiny()
    encoder.runtime = Runtime(device="cpu", checkpoints=tmp_path, checkpoint_seconds=0.0)
    score = Objective.score

    def interrupted(self):
        if list(tmp_path.iterdir()):
            raise KeyboardInterrupt
        return score(self)

    monkeypatch.setattr(Objective, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit([views[0]], [views[1]], seed=3)
    monkeypatch.setattr(Objective, "score", score)
    np.testing.assert_array_equal(encoder.fit([views[0]], [views[1]], seed=3).encode(views[2]), undisturbed)


def test_a_saved_encoder_embeds_as_before(views, tmp_path):
    encoder = tiny("E_c+D", target="clean").fit([views[0]], [views[1]], seed=0)
    encoder.save(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["encoder.json", "weights.safetensors"]
    loaded = make_encoder("hyper_representation", runtime=Runtime(device="cpu")).load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.encode(views[2]), encoder.encode(views[2]))
    assert (loaded.loss, loaded.target, loaded.configuration) == ("E_c+D", "clean", TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "encoder.json").unlink(), "cannot be read as an encoder"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x" * 20), "cannot be read as an encoder"),
        (lambda folder: (folder / "encoder.json").write_text("[]"), "holds None; expected schema 1"),
        (lambda folder: (folder / "encoder.json").write_text('{"schema_version": 1, "kind": "sne"}'), "'sne'"),
    ],
)
def test_a_folder_that_holds_no_such_encoder_is_named(views, tmp_path, change, message):
    tiny().fit([views[0]], [views[1]], seed=0).save(tmp_path)
    change(tmp_path)
    with pytest.raises(ZooError, match=message):
        make_encoder("hyper_representation").load(tmp_path)


def test_a_description_that_does_not_fit_the_tensors_is_named(views, tmp_path):
    tiny().fit([views[0]], [views[1]], seed=0).save(tmp_path)
    description = json.loads((tmp_path / "encoder.json").read_text())
    description["configuration"]["width"] = 32
    (tmp_path / "encoder.json").write_text(json.dumps(description))
    with pytest.raises(ZooError, match="does not fit a hyper_representation"):
        make_encoder("hyper_representation").load(tmp_path)


def test_settings_say_which_configuration_each_zoo_got(views):
    encoder = tiny()
    before = encoder_digest("hyper_representation", encoder)
    assert encoder.config["configuration"]["name"] == "small"
    assert "fitted" not in encoder.config
    encoder.fit([views[0]], [views[1]], seed=0)
    assert encoder.config["fitted"]["tiny"]["width"] == 16
    assert json.loads(json.dumps(encoder.config)) == encoder.config
    assert make_encoder("hyper_representation").config["configuration"] == "the paper's, by zoo"
    assert encoder_digest("hyper_representation", tiny("E_c")) != before


class View:
    """A view made by hand."""

    def __init__(self, weights, layout, name="broken"):
        self.weights, self.layout = np.asarray(weights, dtype=np.float32), layout
        self.models, self.checkpoints = np.arange(len(weights)), np.arange(self.weights.shape[1])
        self.zoo = ZooFacts(name, ())


def test_views_that_cannot_be_read_are_refused_before_training(views):
    good = View(np.zeros((2, 3, 100)), TETRIS)
    with pytest.raises(ZooError, match="no training models; expected a zoo whose split has train and validation parts"):
        tiny().fit([], [good], seed=0)
    with pytest.raises(ZooError, match="no validation models"):
        tiny().fit([good], [View(np.zeros((0, 3, 100)), TETRIS)], seed=0)
    broken = np.zeros((2, 3, 100))
    broken[1, 2, 5] = np.nan
    with pytest.raises(ZooError, match="weights of training model 1 of broken are not finite"):
        tiny().fit([View(broken, TETRIS)], [good], seed=0)
    other = View(np.zeros((2, 3, 2464)), CNN_SMALL, name="other")
    with pytest.raises(ZooError, match=r"broken and other differ in architecture \(100 and 2,464 parameters\)"):
        tiny().fit([good, other], [good], seed=0)
    with pytest.raises(ZooError, match="nothing is fitted yet"):
        tiny().encode(good)
    with pytest.raises(ZooError, match="fitted on an architecture of 100 parameters, given one of 2,464"):
        tiny().fit([views[0]], [views[1]], seed=0).encode(other)
    with pytest.raises(ZooError, match="unknown loss 'E_d'; did you mean"):
        HyperRepresentation(loss="E_d")


def test_networks_of_another_architecture_are_read_through_their_layout():
    layout = layout_of((4, 2, 3, 3), (3, 4, 3, 3), (2, 12))
    generator = np.random.RandomState(0)
    train, validation = (View(generator.standard_normal((n, 4, layout.size)), layout) for n in (20, 12))
    actual = tiny().fit([train], [validation], seed=0).encode(validation)
    assert actual.shape == (48, TINY.latent)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiles", [False, True])
def test_a_gpu_trains_as_well_as_a_cpu(views, compiles):
    """Graphs, bfloat16 and compilation change rounding, not learning: losses after training agree."""
    settings = replace(TINY, epochs=20, dropout=0.1)
    actual = []
    for runtime in (Runtime(device="cpu"), Runtime(device="cuda", compile=compiles)):
        encoder = HyperRepresentation(configuration=settings)
        encoder.runtime = runtime
        embeddings = encoder.fit([views[0]], [views[1]], seed=0).encode(views[2])
        assert np.isfinite(embeddings).all()
        actual.append(encoder.history)
    cpu, gpu = actual
    assert gpu.epochs[-1]["train_loss"] == pytest.approx(cpu.epochs[-1]["train_loss"], rel=0.1)
    assert gpu.best_score == pytest.approx(cpu.best_score, rel=0.1)


def test_a_short_encoder_trains_a_tenth_of_the_epochs(views):
    encoder = HyperRepresentation(configuration=replace(TINY, epochs=15), epochs_share=0.1)
    encoder.runtime = Runtime(device="cpu")
    assert len(encoder.fit([views[0]], [views[1]], seed=0).history.epochs) == 2


def _gradients() -> dict[str, torch.Tensor]:
    """Take one step of E_cD on views that are the weights themselves, and return its gradients."""
    view = View(np.random.RandomState(0).standard_normal((12, 1, 100)), TETRIS)
    encoder = HyperRepresentation(
        configuration=replace(TINY, epochs=1, batch_size=12), augmentation=Augmentation(permute=False, erase=0.0)
    )
    encoder.runtime = Runtime(device="cpu")
    encoder.fit([view], [view], seed=0)
    return {name: parameter.grad for name, parameter in encoder._fitted.module.named_parameters()}


def test_two_processes_contrast_all_rows_and_have_the_gradients_of_one(tmp_path):
    alone = _gradients()
    for actual in in_two_processes(_gradients, tmp_path):
        for name, expected in alone.items():
            torch.testing.assert_close(actual[name], expected, rtol=1e-3, atol=1e-6, msg=name)
