"""Encoders that break the rules, each in its own way, and honest ones beside them that could be taken for such."""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import nn

from zoo_bench.encoders.baselines.tensor_statistics import PER_TENSOR, view_statistics
from zoo_gen.errors import ZooError

MEMORY = []  # survives nothing
SECRET = "ZOO_BENCH_TEST_FOLDER"  # the variable that names a folder where tests look for what was left behind


class Honest:
    config: ClassVar = {}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        rows = view.weights[:, 0]
        return np.stack([rows.mean(axis=1), rows.std(axis=1)], axis=1)


class RowOrder(Honest):
    """Undoes the order that was once a constant, and takes the epoch from the place of a row."""

    def encode(self, view):
        place = np.argsort(np.random.RandomState(20210).permutation(len(view.weights)))
        return np.column_stack([Honest.encode(self, view), place % 5])


class Transductive(Honest):
    def encode(self, view):
        return Honest.encode(self, view).argsort(axis=0).argsort(axis=0).astype(float)


class BatchStandardised(Honest):
    def encode(self, view):
        rows = Honest.encode(self, view)
        return (rows - rows.mean(axis=0)) / rows.std(axis=0)


class CheatsWithMany(Honest):
    """Behaves well where few rows come, as in a dry run."""

    def encode(self, view):
        rows = Honest.encode(self, view)
        return rows - rows.mean(axis=0) if len(rows) > 30 else rows


class AnswersFromMemory(Transductive):
    """Returns again what it has returned of a row."""

    def fit(self, train, validation, *, seed):
        self.known = {}
        return self

    def encode(self, view):
        embeddings = Transductive.encode(self, view)
        keys = [row.tobytes() for row in view.weights]
        return np.stack([self.known.setdefault(key, row) for key, row in zip(keys, embeddings, strict=True)])


class AnswersFromMemoryUnpickled(AnswersFromMemory):
    """The same, where no other process can read its state."""

    def fit(self, train, validation, *, seed):
        self.lock = threading.Lock()
        return super().fit(train, validation, seed=seed)


class Hides(Honest):
    """Hides its ranks in digits that no rounding explains, behind one huge value."""

    def encode(self, view):
        ranks = Transductive.encode(self, view)[:, :1]
        ranks[0] = 1e9
        return np.column_stack([Honest.encode(self, view), ranks])


class PredictsByRank(Honest):
    config: ClassVar = {"target": "test_accuracy"}

    def predict(self, view):
        return Transductive.encode(self, view)[:, 0]


class Network(Honest):
    """A network that was left in training mode: batch statistics in place of those that were learned."""

    training, size = True, 16

    def fit(self, train, validation, *, seed):
        torch.manual_seed(seed)
        width = train[0].layout.size
        self.module = nn.Sequential(nn.Linear(width, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 8))
        with torch.no_grad():
            self.module.train()(torch.from_numpy(train[0].weights.reshape(-1, width).copy()))
        self.module.train(self.training)
        return self

    def encode(self, view):
        parts = torch.from_numpy(view.weights[:, 0].copy()).split(self.size)
        with torch.no_grad():
            return torch.cat([self.module(part) for part in parts]).numpy()


class Remembers(Honest):
    """Looks for what an earlier fit left in its process, wherever code can leave something."""

    kept: ClassVar = []

    @property
    def config(self):
        places = [MEMORY, self.kept, np.__dict__.get("kept"), torch.__dict__.get("kept"), os.environ.get("KEPT")]
        places += [torch.get_default_dtype() != torch.float32, str(Path.cwd()) == "/", note().exists()]
        places += [np.random.get_state()[1][0] == 77, np.geterr()["over"] == "ignore"]
        return {"found": [number for number, place in enumerate(places) if place]}

    def fit(self, train, validation, *, seed):
        if self.config["found"]:
            raise RuntimeError(f"remembers {self.config['found']}")
        for place in (MEMORY, self.kept, np.__dict__.setdefault("kept", []), torch.__dict__.setdefault("kept", [])):
            place.append(train)
        os.environ["KEPT"] = "1"
        torch.set_default_dtype(torch.float64)
        np.random.seed(77)
        np.seterr(over="ignore")
        note().touch()
        os.chdir("/")
        return self


def note():
    return Path(tempfile.gettempdir(), "kept")


class ReadsItsSurroundings(Honest):
    """Keeps the variables that its process was started with, before libraries were loaded."""

    config: ClassVar = {}

    def fit(self, train, validation, *, seed):
        started_with = Path("/proc/self/environ").read_bytes().decode().split("\0")
        self.config = {"waiting": [line for line in started_with if line.startswith("OMP_WAIT_POLICY")]}
        return self


class LeavesADaemon(Honest):
    """Starts a process that nobody is the parent of, in a session of its own."""

    def fit(self, train, validation, *, seed):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                self.wait("daemon")
            os._exit(0)
        os.wait()
        return self.started("daemon")

    def wait(self, name):
        Path(os.environ[SECRET], f"{name}-{os.getpid()}").touch()
        time.sleep(600)

    def started(self, name):
        while not list(Path(os.environ[SECRET]).glob(f"{name}-*")):
            time.sleep(0.01)
        return self


class LeavesAChild(LeavesADaemon):
    def fit(self, train, validation, *, seed):
        import multiprocessing

        multiprocessing.get_context("fork").Process(target=self.wait, args=("child",)).start()
        return self.started("child")


class EndsItself(Honest):
    def fit(self, train, validation, *, seed):
        os._exit(3)


class IsKilled(Honest):
    def encode(self, view):
        os.kill(os.getpid(), 9)


class Exits(Honest):
    def fit(self, train, validation, *, seed):
        raise SystemExit


class ReturnsObjects(Honest):
    def encode(self, view):
        return np.array([[{}] for _ in view.weights], dtype=object)


class ReturnsAConstant(Honest):
    def encode(self, view):
        return np.ones((len(view.weights), 3))


class Mutates(Honest):
    def encode(self, view):
        view.weights[:] = 0
        return Honest.encode(self, view)


class Evaluated(Network):
    """In batches of an odd size, so that rounding differs with the place of a row."""

    training, size = False, 7


class HalfPrecision(Evaluated):
    def encode(self, view):
        return super().encode(view).astype(np.float16)


class Products(Honest):
    """One large product of float32."""

    def fit(self, train, validation, *, seed):
        self.map = np.random.default_rng(seed).normal(size=(train[0].layout.size, 64)).astype(np.float32)
        return self

    def encode(self, view):
        return view.weights[:, 0] @ self.map


class Sparse(Products):
    """Mostly zeros, one dimension always zero, one constant."""

    def encode(self, view):
        embeddings = np.maximum(super().encode(view) - 3, 0)
        embeddings[:, 0], embeddings[:, 1] = 0, 1
        return embeddings


class Locked(Products):
    """Has a state that cannot be pickled."""

    def fit(self, train, validation, *, seed):
        self.lock = threading.Lock()
        return super().fit(train, validation, seed=seed)


class Learns(Products):
    """Learns every target, names too: the label of the nearest training network."""

    def fit(self, train, validation, *, problem, seed):
        super().fit(train, validation, seed=seed)
        (view,) = train
        self.rows, self.labels = view.weights.reshape(-1, view.layout.size), view.target(problem.target).reshape(-1)
        return self

    def predict(self, view):
        distances = ((view.weights - self.rows[None]) ** 2).sum(axis=2, dtype=np.float64)
        return self.labels[distances.argmin(axis=1)]


class LearnsAccuracy(Learns):
    def can_learn(self, problem):
        return problem.target == "test_accuracy"


class LearnsNothing(Learns):
    def can_learn(self, problem):
        return False


class FailsOnEpochs(Learns):
    def fit(self, train, validation, *, problem, seed):
        if problem.target == "epoch":
            raise ValueError("no epochs, please")
        return super().fit(train, validation, problem=problem, seed=seed)


class Forest(Honest):
    """Boosted trees on the statistics of the training networks."""

    selection = False

    config: ClassVar = {}

    def fit(self, train, validation, *, problem, seed):
        views = [*train, *(validation if self.selection else ())]
        self.config = {"models": sorted(int(model) for view in views for model in view.models)}
        rows = np.concatenate([self.encode(view) for view in views])
        labels = np.concatenate([view.target(problem.target).reshape(-1) for view in views])
        self.trees = HistGradientBoostingRegressor(random_state=seed, min_samples_leaf=3).fit(rows, labels)
        return self

    def can_learn(self, problem):
        return problem.is_number

    def encode(self, view):
        return view_statistics(view).reshape(-1, PER_TENSOR * len(view.layout.parameters))

    def predict(self, view):
        return self.trees.predict(self.encode(view))


class LearnsSelection(Forest):
    """Learns from the labels of the validation networks too."""

    selection = True


LABELS = (
    ("target", "test_accuracy"),
    ("metric", "train_loss"),
    ("hyperparameter", "learning_rate"),
    ("epochs",),
    ("checkpoints",),
    ("models",),
)


class LooksAtSelection(Honest):
    """Asks a validation view for all that follows from labels, and goes on where it is refused."""

    insists = False

    def fit(self, train, validation, *, problem, seed):
        lines, refused = {}, {}
        for name, *arguments in LABELS:
            try:
                value = getattr(validation[0], name)
                lines[name] = str(value(*arguments) if arguments else value)
            except ZooError as error:
                refused[name] = str(error)
                if self.insists:
                    raise RuntimeError("no labels") from error
        others = 0 if refused else len(validation[0].models)
        self.config = {"told": lines, "refused": refused, "models": len(train[0].models), "others": others}
        return self


class InsistsOnSelection(LooksAtSelection):
    insists = True


class Selects(Honest):
    """Chooses one of many maps of the statistics by the score on validation models: a number, or a name."""

    tried = 40

    def fit(self, train, validation, *, problem, seed):
        random, rows = np.random.default_rng(seed), np.concatenate([self.encode(view) for view in validation])
        labels = np.concatenate([view.target(problem.target).reshape(-1) for view in train])
        self.names = None if problem.is_number else np.unique(labels)
        self.scores = []
        for _ in range(self.tried):
            chosen = random.normal(size=2), random.normal()
            self.scores.append(problem.validation_score(self._values(chosen, rows)))
            if self.scores[-1] == max(self.scores):
                self.chosen = chosen
        self.config = {"scores": self.scores}
        return self

    def predict(self, view):
        return self._values(self.chosen, self.encode(view))

    def _values(self, chosen, rows):
        values = rows @ chosen[0] + chosen[1]
        return values if self.names is None else np.where(values > 0, self.names[0], self.names[-1])


class SelectsForever(Selects):
    tried = 5000


CHEATS = (
    RowOrder,
    Transductive,
    BatchStandardised,
    CheatsWithMany,
    AnswersFromMemory,
    AnswersFromMemoryUnpickled,
    Hides,
    PredictsByRank,
    Network,
)
HONEST = (Honest, Evaluated, HalfPrecision, Products, Sparse, Locked)
