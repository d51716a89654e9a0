"""What two processes that train together compute, each for itself."""

import multiprocessing
import os
import socket

import torch

# What both processes of every test import is imported once, in the process that they are forked from, where they are.
multiprocessing.set_forkserver_preload(
    [
        "torch._dynamo",
        "tests.zoo_bench.encoders.test_training",
        "tests.zoo_bench.encoders.hyper_representation.test_hyper_representation",
    ]
)
# Importing those tests on a machine with a GPU starts CUDA, which a process that is forked afterwards cannot use.
START_METHOD = "spawn" if torch.cuda.is_available() else "forkserver"
PORTS = 5  # that are tried: another process may take one between the look and the use


def in_two_processes(compute, folder):
    """What `compute`, a function of a module, returns in each of two processes of one group."""
    for attempt in range(PORTS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        try:
            torch.multiprocessing.start_processes(
                _as_one_of_two, (port, compute, folder), nprocs=2, start_method=START_METHOD
            )
        except torch.multiprocessing.ProcessRaisedException as error:
            if "EADDRINUSE" not in str(error) or attempt == PORTS - 1:
                raise
        else:
            break
    return [torch.load(folder / rank, weights_only=False) for rank in "01"]


def _as_one_of_two(rank, port, compute, folder):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.save(compute(), folder / str(rank))
