import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.zoo_bench.encoders.two_processes import in_two_processes
from zoo_bench.encoders.training.loop import Purpose, TrainingSettings, seeded, stream_seed, train
from zoo_bench.encoders.training.progress import History
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.encoders.training.steps import compile_whole
from zoo_gen.errors import ZooError

SETTINGS = TrainingSettings(epochs=5, batch_size=8, learning_rate=1e-2, optimizer="adam", weight_decay=1e-3)
CPU = Runtime(device="cpu")


def problem(*, dropout: float = 0.0, n_samples: int = 30):
    """A module with dropout and batch statistics, its data, and a validation score."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n_samples, 6, generator=generator)
    targets = inputs[:, :2].sin()
    with seeded(1, Purpose.INITIALIZATION):
        module = nn.Sequential(
            nn.Linear(6, 7), nn.BatchNorm1d(7) if dropout else nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, 2)
        )

    def score() -> float:
        return -float(functional.mse_loss(module(inputs), targets))

    return module, inputs, targets, score


def fit(module, loss, score, *, settings=SETTINGS, seed=3, runtime=CPU, n_samples=30) -> History:
    return train(
        module, loss, score=score, n_samples=n_samples, settings=settings, seed=seed, identity={}, runtime=runtime
    )


def squared_error(module, inputs, targets):
    return lambda samples, _: functional.mse_loss(module(inputs[samples]), targets[samples])


def noisy_loss(module, inputs, targets):
    def loss(samples, generator):
        noise = 0.1 * torch.randn(len(samples), 6, generator=generator)
        return functional.mse_loss(module(inputs[samples] + noise), targets[samples])

    return loss


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_training_takes_the_steps_of_a_plain_loop(optimizer):
    settings = TrainingSettings(
        epochs=4, batch_size=8, learning_rate=1e-2, optimizer=optimizer, weight_decay=1e-2, clip=0.1, keep="last"
    )
    module, inputs, targets, score = problem()
    fit(module, squared_error(module, inputs, targets), score, settings=settings)

    plain, *_ = problem()
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.AdamW
    stepper = kind(plain.parameters(), lr=1e-2, weight_decay=1e-2)
    for epoch in (1, 2, 3, 4):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(stream_seed(3, Purpose.ORDER, epoch)))
        for samples in order[:24].split(8):
            stepper.zero_grad()
            functional.mse_loss(plain(inputs[samples]), targets[samples]).backward()
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in plain.parameters()))
            for parameter in plain.parameters():
                parameter.grad *= min(1.0, 0.1 / norm)
            stepper.step()
    for actual, expected in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_cpu_takes_the_steps_of_autocast_where_settings_and_runtime_say_bfloat16():
    settings = replace(SETTINGS, weight_decay=0.0, keep="last")
    weights = {}
    for allowed, asked_for in ((True, True), (True, False), (False, True), (False, False)):
        module, inputs, targets, score = problem()
        fit(
            module,
            squared_error(module, inputs, targets),
            score,
            settings=replace(settings, bfloat16=asked_for),
            runtime=Runtime(device="cpu", cpu_bfloat16=allowed),
        )
        weights[allowed, asked_for] = module[0].weight

    plain, inputs, targets, _ = problem()
    stepper = torch.optim.Adam(plain.parameters(), lr=1e-2)
    for epoch in range(1, 6):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(stream_seed(3, Purpose.ORDER, epoch)))
        for samples in order[:24].split(8):
            stepper.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = functional.mse_loss(plain(inputs[samples]), targets[samples])
            loss.backward()
            stepper.step()
    torch.testing.assert_close(weights[True, True], plain[0].weight, rtol=1e-4, atol=1e-6)
    assert torch.equal(weights[True, False], weights[False, False])
    assert torch.equal(weights[False, True], weights[False, False])
    assert not torch.allclose(weights[True, True], weights[False, False], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit(tmp_path, schedule):
    settings = TrainingSettings(
        epochs=6, batch_size=8, learning_rate=1e-2, schedule=schedule, warm_up_steps=5, evaluate_every=2, clip=1.0
    )
    module, inputs, targets, score = problem(dropout=0.3)
    undisturbed = fit(module, noisy_loss(module, inputs, targets), score, settings=settings)

    again, inputs, targets, score = problem(dropout=0.3)
    runtime = Runtime(device="cpu", checkpoints=tmp_path, checkpoint_seconds=0.0)
    calls = 0

    def interrupted() -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return score()

    with pytest.raises(KeyboardInterrupt):
        fit(again, noisy_loss(again, inputs, targets), interrupted, settings=settings, runtime=runtime)
    assert len(list(tmp_path.iterdir())) == 1
    # A new process starts from a module with other weights and a global generator in another state.
    fresh, inputs, targets, score = problem(dropout=0.3)
    nn.init.normal_(fresh[0].weight)
    resumed = fit(fresh, noisy_loss(fresh, inputs, targets), score, settings=settings, runtime=runtime)
    assert resumed == undisturbed
    for key, value in module.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key
    # It is finished, and stays so: whoever asks again gets it without a step.
    third, inputs, targets, score = problem(dropout=0.3)
    nn.init.normal_(third[0].weight)

    def untrained(samples):
        raise AssertionError("a finished training took a step")

    assert fit(third, untrained, score, settings=settings, runtime=runtime) == undisturbed
    for key, value in module.state_dict().items():
        assert torch.equal(value, third.state_dict()[key]), key


def test_another_training_does_not_resume_from_it(tmp_path):
    runtime = Runtime(device="cpu", checkpoints=tmp_path, checkpoint_seconds=0.0)
    module, inputs, targets, _ = problem()

    def broken() -> float:
        if list(tmp_path.iterdir()):
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        fit(module, noisy_loss(module, inputs, targets), broken, runtime=runtime)
    actual = []
    for where in (runtime, CPU):
        module, inputs, targets, score = problem()
        fit(module, noisy_loss(module, inputs, targets), score, seed=4, runtime=where)
        actual.append(module[0].weight)
    assert torch.equal(*actual)


def test_the_best_validation_score_stops_and_decides():
    module, inputs, targets, _ = problem()
    scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    states = []

    def score() -> float:
        assert not module.training
        states.append(module[0].weight.detach().clone())
        return next(scores)

    settings = TrainingSettings(epochs=50, batch_size=8, learning_rate=1e-2, patience=2)
    history = fit(module, noisy_loss(module, inputs, targets), score, settings=settings)
    assert (len(history.epochs), history.best_epoch, history.best_score) == (4, 2, 3.0)
    assert torch.equal(module[0].weight, states[1])
    assert not module.training


def test_the_plateau_schedule_is_torchs():
    losses = [3.0, 2.0, *[2.0 - 1e-5 * i for i in range(12)], 1.0, *[1.5] * 40]
    parameter = nn.Parameter(torch.zeros(1))
    stepper = torch.optim.SGD([parameter], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(stepper, factor=0.3, patience=10)
    history = History()
    for loss in losses:
        scheduler.step(loss)
        history.add_loss(loss, learning_rate=1e-4)
        assert 1e-4 * history.rate_factor == pytest.approx(stepper.param_groups[0]["lr"])
    assert history.rate_factor < 0.03


def test_the_rate_rises_and_falls_as_the_cosine_schedule_says(monkeypatch):
    rates = []
    take_step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), take_step(self))[1]
    )
    module, inputs, targets, score = problem()
    settings = TrainingSettings(epochs=4, batch_size=10, learning_rate=1.0, schedule="cosine", warm_up_steps=4)
    fit(module, noisy_loss(module, inputs, targets), score, settings=settings)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, *[0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]])


def test_a_loss_that_is_not_finite_is_an_error():
    module, inputs, targets, score = problem()
    inputs[4] = math.nan
    with pytest.raises(ZooError, match="training: the loss became nan in epoch 1"):
        fit(module, noisy_loss(module, inputs, targets), score)


def test_the_generators_of_the_caller_are_left_alone():
    module, inputs, targets, score = problem(dropout=0.3)
    state = torch.random.get_rng_state()
    fit(module, noisy_loss(module, inputs, targets), score)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_small_data_set_is_one_batch():
    module, inputs, targets, score = problem()
    sizes = []

    def loss(samples, generator):
        sizes.append(len(samples))
        return functional.mse_loss(module(inputs[samples]), targets[samples])

    fit(module, loss, score, n_samples=5)
    assert sizes == [5] * 5


def test_streams_differ_by_seed_purpose_and_epoch():
    seeds = {stream_seed(seed, purpose, epoch) for seed in (0, 1) for purpose in Purpose for epoch in (1, 2)}
    assert len(seeds) == 2 * len(Purpose) * 2


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ZooError, match=f"device '{device}'"):
        Runtime(device=device).torch_device()


def _train_one_epoch() -> dict:
    """Return the gradients of the last step, the weights and the loss of an epoch."""
    module, inputs, targets, score = problem()
    settings = TrainingSettings(epochs=1, batch_size=10, learning_rate=1e-2, optimizer="adam", keep="last")
    history = fit(module, squared_error(module, inputs, targets), score, settings=settings)
    parameters = list(module.parameters())
    gradients = [parameter.grad for parameter in parameters]
    return {"gradients": gradients, "weights": parameters, "loss": history.epochs[0]["train_loss"]}


def test_two_processes_have_the_gradients_of_one(tmp_path):
    alone = _train_one_epoch()
    for actual in in_two_processes(_train_one_epoch, tmp_path):
        assert actual["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        for kind in ("gradients", "weights"):
            for ours, expected in zip(actual[kind], alone[kind], strict=True):
                torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-7)


def test_the_compiler_here_knows_the_options_that_gpus_compile_with():
    compile_whole(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="comprehensive_paddings"):  # what it does not know it refuses at once
        nn.Linear(2, 2).compile(options={"comprehensive_paddings": False})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_takes_the_steps_of_launches_one_by_one():
    states = []
    for graph in (False, True):
        settings = TrainingSettings(epochs=3, batch_size=8, learning_rate=1e-2, graph=graph, bfloat16=False, clip=1.0)
        module, inputs, targets, _ = problem()
        module, inputs, targets = module.cuda(), inputs.cuda(), targets.cuda()

        def loss(samples, generator, module=module, inputs=inputs, targets=targets):
            noise = 0.1 * torch.randn(len(samples), 6, generator=generator, device="cuda")
            return functional.mse_loss(module(inputs[samples] + noise), targets[samples])

        train(
            module,
            loss,
            score=lambda: 0.0,
            n_samples=30,
            settings=settings,
            seed=3,
            identity={},
            runtime=Runtime(device="cuda", compile=False),
        )
        states.append([parameter.detach() for parameter in module.parameters()])
    for actual, expected in zip(*states, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_gpu_of_a_training_is_the_current_one(monkeypatch):
    """A graph that is captured on another GPU than that of its tensors trains nothing, and only a warning says so."""
    current = []
    monkeypatch.setattr("zoo_bench.encoders.training.runtime.check_device", lambda name: None)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert Runtime(device="cuda:1").torch_device() == torch.device("cuda:1")
    assert current == [torch.device("cuda:1")]
    Runtime(device="cpu").torch_device()
    assert len(current) == 1
