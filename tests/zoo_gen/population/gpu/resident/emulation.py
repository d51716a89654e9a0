"""Runs the kernels of `zoo_gen.population.gpu.resident` on a CPU, a thread block's threads in turns."""

import ctypes
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from zoo_gen.population.gpu.resident.compiling import Argument
from zoo_gen.population.gpu.resident.program import Program
from zoo_gen.population.gpu.resident.step_code import ARGUMENTS, ENTRY


class Emulated:
    """A kernel as `compiling.Kernel`."""

    def __init__(self, program: Program, source: str) -> None:
        self._run = _compiled(source, program.size)

    def launch(self, models: int, parts: int, arguments: Sequence[Argument]) -> None:
        """Run the thread blocks one after the other."""
        passed = [
            ctypes.c_void_p(0 if value is None else value.data_ptr())
            if value is None or isinstance(value, Tensor)
            else (ctypes.c_float if kind == "float" else ctypes.c_int)(value)
            for value, (kind, _) in zip(arguments, ARGUMENTS, strict=True)
        ]
        self._run(models, parts, *passed)


@cache
def _compiled(source: str, size: int) -> ctypes._CFuncPtr:
    names = [name for _, name in ARGUMENTS]
    declared = ", ".join(f"{kind} {name}" for kind, name in ARGUMENTS)
    runner = f"""
static void (*body)();
static void started() {{
    body();
    ended[current] = 1;
    for (int next = 0; next < n_threads; ++next)
        if (!ended[next]) {{ current = next; threadIdx.x = next; setcontext(&contexts[next]); }}
    setcontext(&outside);
}}
static struct {{ {" ".join(f"{kind} {name};" for kind, name in ARGUMENTS)} }} passed;
static void called() {{ {ENTRY}({", ".join(f"passed.{name}" for name in names)}); }}
extern "C" void run(int models, int parts, {declared}) {{
    passed = {{{", ".join(names)}}};
    n_threads = THREADS;
    body = called;
    std::vector<std::vector<char>> stacks(n_threads, std::vector<char>(1 << 16));
    for (int model = 0; model < models; ++model) for (int part = 0; part < parts; ++part) {{
        blockIdx = {{model, part, 0}};
        shared_memory.assign({size}, (char)0xff);
        shared = shared_memory.data();
        contexts.assign(n_threads, ucontext_t());
        ended.assign(n_threads, 0);
        warps.assign(n_threads / 32, Warp());
        turns.assign(n_threads, 0);
        n_waiting = 0;
        for (int thread = 0; thread < n_threads; ++thread) {{
            getcontext(&contexts[thread]);
            contexts[thread].uc_stack.ss_sp = stacks[thread].data();
            contexts[thread].uc_stack.ss_size = stacks[thread].size();
            makecontext(&contexts[thread], started, 0);
        }}
        current = 0;
        threadIdx.x = 0;
        swapcontext(&outside, &contexts[0]);
    }}
}}
"""
    text = Path(__file__).with_name("machine.h").read_text() + source + runner
    command = ["g++", "-std=c++17", "-O0", "-w", "-shared", "-fPIC", "kernel.cpp", "-o", "kernel.so"]
    with TemporaryDirectory() as folder:
        Path(folder, "kernel.cpp").write_text(text)
        subprocess.run(command, cwd=folder, check=True)
        run = ctypes.CDLL(str(Path(folder, "kernel.so"))).run
    run.restype = None
    return run
