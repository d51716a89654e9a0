"""Compiling CUDA C++ at run time and launching it, by NVIDIA's own bindings, which come with torch."""

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import torch
from torch import Tensor

from zoo_gen.population.gpu.resident.program import SHARED_MOST

OLDEST = (9, 0)  # compute capability

Argument = Tensor | int | float | None


class Kernel(Protocol):
    """A compiled program."""

    def launch(self, models: int, parts: int, arguments: Sequence[Argument]) -> None:
        """Start a thread block for each model and part of the images; arguments as `step_code.ARGUMENTS`."""


@cache
def hindrance(device: str) -> str | None:
    """Return why nothing can be compiled for a GPU, None if it can."""
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        return "cuda-bindings, which compiles CUDA C++, is not installed"
    try:
        error, *_ = nvrtc.nvrtcVersion()
    except RuntimeError:  # the library is not there
        return "NVRTC, which compiles CUDA C++, is not installed"
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        return f"NVRTC does not work: {error}"
    major, minor = torch.cuda.get_device_capability(device)
    shared_memory = getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", SHARED_MOST)
    if (major, minor) < OLDEST or shared_memory < SHARED_MOST:
        name = torch.cuda.get_device_name(device)
        return f"{name} has too little shared memory, a model may need {SHARED_MOST // 1024} kB"
    return None


class Compiled:
    """A kernel on a GPU, the device of `torch.cuda.device` when it was made."""

    def __init__(self, source: str, entry: str, *, threads: int, shared: int) -> None:
        from cuda.bindings import driver

        image = _compiled(source, "sm_{}{}".format(*torch.cuda.get_device_capability()))
        torch.cuda.current_stream().synchronize()  # torch makes its context the thread's
        self._module = _checked(driver.cuModuleLoadData(image))
        self._function = _checked(driver.cuModuleGetFunction(self._module, entry.encode()))
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver.cuFuncSetAttribute(self._function, attribute, shared))
        self._threads, self._shared, self._device = threads, shared, torch.cuda.current_device()

    def launch(self, models: int, parts: int, arguments: Sequence[Argument]) -> None:
        """Start a thread block for each model and part of the images."""
        from cuda.bindings import driver

        values, kinds = zip(*map(_passed, arguments), strict=True)
        size = (models, parts, 1, self._threads, 1, 1, self._shared)
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream().cuda_stream
            _checked(driver.cuLaunchKernel(self._function, *size, stream, (values, kinds), 0))


@cache
def _compiled(source: str, architecture: str) -> bytes:
    """Return the machine code of a source for an architecture, for instance sm_90."""
    from cuda.bindings import nvrtc

    text = files(__package__).joinpath("machine.cuh").read_text(encoding="utf-8") + source
    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"resident.cu", 0, [], []))
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    error, *_ = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"NVRTC: {log.decode(errors='replace')}")
    image = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, image))
    nvrtc.nvrtcDestroyProgram(program)
    return image


def _passed(argument: Argument) -> tuple[int | float, Any]:
    """Return an argument as the driver takes it: its value and C type."""
    if argument is None:
        return 0, ctypes.c_void_p
    if isinstance(argument, Tensor):
        return argument.data_ptr(), ctypes.c_void_p
    return argument, ctypes.c_float if isinstance(argument, float) else ctypes.c_int


def _checked(answer: tuple[Any, ...]) -> Any:
    """Return what a call gave.

    Raises:
        RuntimeError: it failed.
    """
    error, *results = answer
    if error.value != 0:
        raise RuntimeError(f"CUDA: {error!r}")
    return results[0] if results else None
