"""Code: functions on vectors of numbers, compiled for this CPU by LLVM through llvmlite.

Every number of an image, a kernel or a gradient is a vector (lane,) that holds that number of each of several models
(of several sets in SNE), so these are multiplied, compared and added without ever being mixed. A Python loop in a
kernel is unrolled code, `Code.loop` is a loop at run time. Compiling takes some 20 ms a kernel, so nothing is kept on
disk.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import llvmlite.binding as llvm
from llvmlite import ir

INT = ir.IntType(64)
_POINTER = ir.PointerType()
Value: TypeAlias = ir.Value
_engines: list[llvm.ExecutionEngine] = []  # own the code of the functions that are compiled
Place = tuple[Value, int] | int  # so many vectors on, or (number at run time) x (so many vectors) on


@dataclass(frozen=True)
class Machine:
    """The vector registers of a machine, and the instructions that its code may use."""

    bits: int  # of a register
    count: int
    cpu: str = ""  # LLVM's name of the processor
    features: str = ""  # beside those of that processor, as LLVM writes them

    @property
    def sums(self) -> int:
        """How many registers hold sums; the others hold what is multiplied."""
        return self.count * 3 // 4


@cache
def machine() -> Machine:
    """Return the registers and instructions of this machine."""
    features = llvm.get_host_cpu_features()
    bits, count = 128, 32 if llvm.get_default_triple().startswith(("aarch64", "arm64")) else 16
    if features.get("avx512f"):
        bits, count = 512, 32
    elif features.get("avx"):
        bits = 256
    return Machine(bits, count, llvm.get_host_cpu_name(), features.flatten())


class Code:
    """A function that is being written; it takes addresses, then a number of images.

    Args:
        pointers: how many addresses it takes.
        lanes: numbers in a vector.
        bits: of a number, 32 or 64.
    """

    def __init__(self, pointers: int, *, lanes: int, bits: int) -> None:
        self.module = ir.Module("lanes")
        self.lanes, self.bits = lanes, bits
        self.vector = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), lanes)
        self.zero = ir.Constant(self.vector, None)
        self.pointers = pointers
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_POINTER] * pointers + [INT]), "kernel")
        self.arguments: list[Value] = list(function.args)
        self.builder = ir.IRBuilder(function.append_basic_block())
        # In one rounding on every machine, so that all give the same bits; one without the instruction is slow.
        of_three = ir.FunctionType(self.vector, [self.vector] * 3)
        self._multiply_add = ir.Function(self.module, of_three, f"llvm.fma.v{lanes}f{bits}")

    def loop(
        self,
        count: int | Value,
        body: Callable[[Value, list[Value]], list[Value] | None],
        carried: Sequence[Value] = (),
    ) -> list[Value]:
        """Run `body(number, carried)` for each number below `count`, at least once; it returns what it carries on.

        Returns:
            What the last run of the body carries on.
        """
        b = self.builder
        before = b.block
        inside, after = b.append_basic_block(), b.append_basic_block()
        b.branch(inside)
        b.position_at_end(inside)
        phis = [b.phi(value.type) for value in (INT(0), *carried)]
        for phi, value in zip(phis, (INT(0), *carried), strict=True):
            phi.add_incoming(value, before)
        number, *values_inside = phis
        results = body(number, values_inside) or []
        following = b.add(number, INT(1))
        for phi, value in zip(phis, (following, *results), strict=True):
            phi.add_incoming(value, b.block)
        again = b.icmp_unsigned("<", following, INT(count) if isinstance(count, int) else count)
        b.cbranch(again, inside, after)
        b.position_at_end(after)
        return results

    def at(self, pointer: Value, *places: Place, kind: ir.Type | None = None) -> Value:
        """Return the address of the vector at the sum of the places, of vectors of our kind if none is given."""
        kind = kind or self.vector
        fixed = sum(place for place in places if isinstance(place, int))
        for place in places:
            if not isinstance(place, int):
                pointer = self.builder.gep(pointer, [self.builder.mul(place[0], INT(place[1]))], source_etype=kind)
        return self.builder.gep(pointer, [INT(fixed)], source_etype=kind) if fixed else pointer

    def load(self, pointer: Value, *places: Place, kind: ir.Type | None = None) -> Value:
        """Return the vector at the sum of the places."""
        kind = kind or self.vector
        return self.builder.load(self.at(pointer, *places, kind=kind), typ=kind, align=_aligned(kind))

    def store(self, value: Value, pointer: Value, *places: Place) -> None:
        """Put a vector at the sum of the places."""
        self.builder.store(value, self.at(pointer, *places, kind=value.type), align=_aligned(value.type))

    def add(self, value: Value, pointer: Value, *places: Place) -> None:
        """Add a vector to the one at the sum of the places."""
        address = self.at(pointer, *places)
        self.store(self.builder.fadd(self.load(address), value), address)

    def multiply_add(self, one: Value, other: Value, to: Value) -> Value:
        """Return one x other + to."""
        return self.builder.call(self._multiply_add, [one, other, to])

    def root(self, values: Value) -> Value:
        """Return the square root of each number."""
        name = f"llvm.sqrt.v{self.lanes}f{self.bits}"
        function = self.module.globals.get(name)
        function = function or ir.Function(self.module, ir.FunctionType(self.vector, [self.vector]), name)
        return self.builder.call(function, [values])

    def several(self, count: int) -> ir.VectorType:
        """Return the type of so many neighbouring numbers."""
        return ir.VectorType(self.vector.element, count)

    def integers(self, bits: int) -> ir.VectorType:
        """Return the type of a vector of integers."""
        return ir.VectorType(ir.IntType(bits), self.lanes)

    def constant(self, value: float, kind: ir.VectorType | None = None) -> Value:
        """Return a vector that holds a number in every lane."""
        kind = kind or self.vector
        return ir.Constant(kind, [kind.element(value)] * self.lanes)

    def everywhere(self, number: Value, kind: ir.VectorType) -> Value:
        """Return a vector of integers that holds a number of run time, cut to their size, in every lane."""
        small = self.builder.trunc(number, kind.element)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), small, ir.IntType(32)(0))
        spread = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), spread)

    def chosen(self, vector: Value, places: Sequence[int], other: Value | None = None) -> Value:
        """Return the numbers at some places of a vector, or of one with another behind it."""
        places = list(places)
        if other is None and places == list(range(vector.type.count)):
            return vector
        small = ir.IntType(32)
        mask = ir.Constant(ir.VectorType(small, len(places)), [small(place) for place in places])
        return self.builder.shuffle_vector(vector, other or ir.Constant(vector.type, ir.Undefined), mask)

    def compiled(self) -> Callable[..., None]:
        """End the function and return it: it takes addresses and the number of images as integers."""
        self.builder.ret_void()
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(str(self.module))
        module.verify()
        this = machine()
        target = llvm.Target.from_default_triple().create_target_machine(cpu=this.cpu, features=this.features, opt=3)
        engine = llvm.create_mcjit_compiler(module, target)
        engine.finalize_object()
        kinds = [ctypes.c_void_p] * self.pointers + [ctypes.c_int64]
        function = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address("kernel"))
        _engines.append(engine)
        return function


def _aligned(kind: ir.Type) -> int:
    """Return what torch's memory is aligned by, wherever a tensor begins: a number."""
    element = kind.element
    return {ir.FloatType(): 4, ir.DoubleType(): 8}.get(element) or element.width // 8
