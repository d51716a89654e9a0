"""The process of one encoder: it makes the encoder, and fits, encodes and predicts as it is asked to.

An encoder that another process has fitted can be restored here, so that what it remembers beside its own state is lost.
"""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from zoo_bench.encoders import fit_encoder, learned_problems
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.candidate import Candidate, described, plain_config
from zoo_bench.evaluation.costs import measured
from zoo_bench.evaluation.failing import EncoderError, named
from zoo_bench.evaluation.generators import seed_global_generators
from zoo_bench.evaluation.processes.messages import receive_request, send_answer
from zoo_bench.evaluation.rows import returned
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.views import SelectionViews, TrainingView, WeightsView
from zoo_bench.results import this_machine
from zoo_gen.errors import ZooError
from zoo_gen.machine.pickling import pickled, unpickled
from zoo_gen.zoo.forward import by_torch_alone

_ROWS_COUNTED = {"cpu": 32, "cuda": 512}
Answer = tuple[dict[str, Any], np.ndarray | None]


@dataclass(frozen=True)
class Surroundings:
    """What of its driver a process takes over before anything of the encoder is read."""

    name: str  # of the encoder
    path: list[str]  # sys.path
    folder: str  # the current one
    environment: dict[str, str]
    temporary: str  # its own folder of temporary files, gone when it ends


def serve(connection: Connection) -> None:
    """Answer requests until nobody asks any more."""
    host: Host | None = None
    while True:
        facts: dict[str, Any] = {}
        array = None
        name = host.name if host else "?"
        try:
            with named(name, "cannot be read by its process"):
                method, arguments = receive_request(connection)
            if host is None:
                host = Host(Surroundings(*arguments), connection)
            else:
                facts, array = getattr(host, method)(*arguments)
        except EncoderError as error:
            if isinstance(error.__cause__, EOFError):
                return
            facts = {
                "error": str(error),
                "traceback": error.traceback,
                "asked_for_labels": error.asked_for_labels,
            }
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        send_answer(connection, facts, array)


class AskedSelection:
    """Scores of predictions of the validation models, asked for from the process that has their labels."""

    def __init__(self, connection: Connection, left_out: int) -> None:
        self.left_out = left_out
        self._connection, self._lock = connection, threading.Lock()

    def score(self, predicted: np.ndarray, *, rows: np.ndarray | None = None) -> float:
        """Return the score.

        Raises:
            ZooError: the predictions do not fit the rows, or no more scores are given.
        """
        predicted = np.asarray(predicted)
        if predicted.dtype.kind not in "biufU":
            raise ZooError(f"predictions to score are of type {predicted.dtype}; expected numbers or names")
        with self._lock:
            send_answer(self._connection, {"score": None if rows is None else np.asarray(rows).tolist()}, predicted)
            _, (score, error) = receive_request(self._connection)
        if error:
            raise ZooError(error)
        return float(score)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a fitted encoder may keep its problem, but nobody to ask


class Host:
    """An encoder and what it is asked for; every method returns plain data and an array, if there is one."""

    def __init__(self, surroundings: Surroundings, connection: Connection) -> None:
        self.name = surroundings.name
        self._connection = connection
        self._encoder: Any = None
        sys.path[:] = surroundings.path
        sys.argv[1:] = []
        os.environ.clear()
        os.environ.update(surroundings.environment)
        # Compiled kernels are the same for every encoder and take minutes: they stay where torch would look for them.
        inductor = Path(tempfile.gettempdir(), f"torchinductor_{os.environ.get('USER', 'user')}")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(inductor))
        os.environ["TMPDIR"] = tempfile.tempdir = surroundings.temporary
        os.chdir(surroundings.folder)
        logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)

    def make(self, candidate: Candidate, runtime: Runtime | None) -> Answer:
        """Make the encoder."""
        from threadpoolctl import threadpool_limits

        self._encoder = candidate.fresh(runtime)
        # The last digits of linear algebra follow from its number of threads, which workers share out: one, always.
        threadpool_limits(limits=1, user_api="blas")
        with named(self.name, "config", encoder=self._encoder):
            return {"config": plain_config(self._encoder)}, None

    def describe(self, candidate: Candidate) -> Answer:
        """Return the digest of a candidate, and whether it needs torch."""
        checked = described(candidate)
        return {"digest": checked.digest, "torch": checked.torch, "neural": checked.neural}, None

    def learned(self, problems: Sequence[Problem]) -> Answer:
        """Return the targets of the problems that the encoder is fitted to; None stands for a fit without one."""
        with named(self.name, "can_learn", encoder=self._encoder):
            targets = [problem.target for problem in learned_problems(self.name, self._encoder, problems)]
            needs = list(getattr(self._encoder, "needs", ()))
            return {"targets": targets, "predicts": hasattr(self._encoder, "predict"), "needs": needs}, None

    def fit(
        self,
        train: Sequence[TrainingView],
        validation: SelectionViews,
        problem: Problem,
        seed: int,
        left_out: int,
    ) -> Answer:
        """Fit the encoder; return what it took and on which GPU, its settings and the number of its parameters.

        Args:
            train: the models that train.
            validation: the models that select.
            problem: what to learn.
            seed: of all randomness.
            left_out: how many validation rows have no value of the target; 0 where there is no target.
        """
        if problem.target is not None:
            problem = replace(problem, selection=AskedSelection(self._connection, left_out))
        seed_global_generators(seed)
        with named(self.name, "fit", encoder=self._encoder), measured() as cost:
            fit_encoder(self._encoder, train, validation, problem=problem, seed=seed)
        with named(self.name, "config", encoder=self._encoder):
            config = plain_config(self._encoder)
            parameters = getattr(self._encoder, "parameter_count", None)
        count = None if parameters is None else int(parameters)
        return {"cost": asdict(cost), "config": config, "parameters": count, "gpu": this_machine().gpu}, None

    def call(self, method: str, view: WeightsView) -> Answer:
        """Encode or predict; return what it took, and the array."""
        with measured() as cost:
            array = returned(self.name, self._encoder, method, view)
        return {"cost": asdict(cost)}, array

    def operations(self, view: WeightsView) -> Answer:
        """Return how many operations of matrix products and convolutions torch counts while a network is encoded.

        As many rows are encoded as shipped encoders take at once, so that none only fills up a block.
        """
        if "torch" not in sys.modules:
            return {"operations": None}, None
        from torch.utils.flop_counter import FlopCounterMode

        count = _ROWS_COUNTED["cuda" if this_machine().gpu else "cpu"]
        try:
            with FlopCounterMode(display=False) as counter, by_torch_alone():
                self._encoder.encode(view.part(np.resize(np.arange(len(view.weights)), count)))
        except Exception:  # what cannot be counted is no failure of the encoder, which has encoded these rows
            return {"operations": None}, None
        return {"operations": counter.get_total_flops() // count or None}, None

    def state(self) -> Answer:
        """Return the encoder as bytes, one array; none if it cannot be pickled."""
        try:
            parts = pickled(self._encoder)
        except Exception:
            return {}, None
        sizes = [len(part) for part in parts]
        return {"sizes": sizes}, np.frombuffer(b"".join(parts), np.uint8)

    def restore(self, sizes: Sequence[int], state: np.ndarray) -> Answer:
        """Become the encoder whose state another process returned."""
        from threadpoolctl import threadpool_limits

        bounds = np.cumsum([0, *sizes])
        parts = [bytes(state[start:stop]) for start, stop in pairwise(bounds.tolist())]
        with named(self.name, "cannot be restored from its pickled state"):
            self._encoder = unpickled([parts[0], *(memoryview(bytearray(part)) for part in parts[1:])])
        if isinstance(runtime := getattr(self._encoder, "runtime", None), Runtime):
            with suppress(ZooError):  # what is not there, `encode` names if it needs it
                runtime.torch_device()  # which becomes the current one here too
        threadpool_limits(limits=1, user_api="blas")
        return {}, None
