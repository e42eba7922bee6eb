"""Single nodes by ONNX Runtime, of any shape: no bundle's graphs, but what its kernels do faster than numpy."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sanderling import forked, providers
from sanderling.errors import InferenceError
from sanderling.reasons import first_line

# Characters of what ONNX Runtime says that are passed on.
_SAID = 500


class _Node:
    """A session of one node. Each kind is made once in a process for each of its arguments; a forked child makes its
    own."""

    _of: ClassVar[dict[tuple[Any, ...], Any]] = {}

    def __init__(self, model: bytes, threads: int, provider: str = "cpu", *, arena: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = arena
        options.add_session_config_entry("session.force_spinning_stop", "1")
        names = providers.configure(options, providers.resolve(provider))
        self._session = onnxruntime.InferenceSession(model, options, providers=names, enable_fallback=0)
        forked.watch(self)

    @classmethod
    def of(cls, *arguments: Any) -> Self:
        """The one of this process for what it is made of."""
        key = (os.getpid(), cls, *arguments)
        if key not in cls._of:
            cls._of[key] = cls(*arguments)
        return cast("Self", cls._of[key])

    def abandon(self) -> None:
        """In a forked child: never destroy the session."""
        forked.keep(self._session)


class Rows(_Node):
    """Rows of an array by their places, on the device. Made for a provider and an ONNX type."""

    def __init__(self, provider: str, element_type: int) -> None:
        super().__init__(_ROWS.replace(_FLOAT, _FLOAT[:-1] + bytes([element_type])), 1, provider, arena=False)
        self._memory = providers.resolve(provider).memory

    def take(self, value: onnxruntime.OrtValue, order: NDArray[np.int64]) -> onnxruntime.OrtValue:
        """The rows of `value` at the places `order` (n,), as a new array."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("a", value)
        binding.bind_cpu_input("b", np.ascontiguousarray(order, np.int64))
        binding.bind_output("y", self._memory, 0)
        try:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:
            raise InferenceError(f"ONNX Runtime failed to reorder rows: {first_line(error, _SAID)}") from error
        return binding.get_outputs()[0]


class Products(_Node):
    """Integer products. Made for a number of threads."""

    def __init__(self, threads: int) -> None:
        super().__init__(_PRODUCTS, threads)

    def __call__(self, left: NDArray[np.uint8], right: NDArray[np.int8]) -> NDArray[np.int32]:
        """The products of `left`, (n, d), with each of `right`, (blocks, d, m): (blocks, n, m)."""
        (found,) = self._session.run(None, {"a": left, "b": right})
        return cast("NDArray[np.int32]", found)


class ScaledProducts(_Node):
    """Integer products, scaled and moved while they are in the cache. Made for a number of threads."""

    _UNIT: ClassVar[NDArray[np.float32]] = np.ones(1, np.float32)

    def __init__(self, threads: int) -> None:
        super().__init__(_SCALED, threads)

    def __call__(
        self,
        left: NDArray[np.uint8],
        right: NDArray[np.int8],
        scale: NDArray[np.float32],
        offset: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """The products of `left`, (n, d), with `right`, (d, m), times `scale`, (m,), plus `offset`, (m,): (n, m)."""
        (found,) = self._session.run(None, {"a": left, "b": right, "s": self._UNIT, "t": scale, "o": offset})
        return cast("NDArray[np.float32]", found)


# An ONNX model (IR version 8, opset 10) of the node y = MatMulInteger(a, b): a of uint8, b of int8, y of int32.
_PRODUCTS = bytes.fromhex(
    "0808 12003a3e"  # IR version 8, the graph
    "0a18 0a0161 0a0162 120179 220d4d61744d756c496e7465676572"  # the node: inputs a and b, output y, its operator
    "120167"  # the graph's name, g
    "5a09 0a0161 12040a020802"  # input a of uint8
    "5a09 0a0162 12040a020803"  # input b of int8
    "6209 0a0179 12040a020806"  # output y of int32
    "4204 0a00100a"  # opset 10
)

# An ONNX model (IR version 8) of ONNX Runtime's node y = MatMulIntegerToFloat(a, b, s, t, o): the products of a and b,
# times s, one number, times t and plus o, each column's.
_SCALED = bytes.fromhex(
    "08083a8201"  # IR version 8, the graph
    "0a3b 0a01610a01620a01730a01740a000a000a016f120179"  # the node: inputs a, b, s, t, none, none and o, output y,
    "22144d61744d756c496e7465676572546f466c6f6174 3a0d636f6d2e6d6963726f736f6674"  # its operator and domain
    "120167"  # the graph's name, g
    "5a090a016112040a020802"  # input a of uint8
    "5a090a016212040a020803"  # input b of int8
    "5a090a017312040a020801"  # input s of float32
    "5a090a017412040a020801"  # input t of float32
    "5a090a016f12040a020801"  # input o of float32
    "62090a017912040a020801"  # output y of float32
    "42110a0d636f6d2e6d6963726f736f66741001"  # version 1 of ONNX Runtime's own operators
)

# An ONNX model (IR version 8, opset 13) of the node y = Gather(a, b) along the first axis: a and y of float32, which is
# replaced for others, b of int64.
_FLOAT = bytes.fromhex("0a020801")
_ROWS = bytes.fromhex(
    "0808 3a37"  # IR version 8, the graph
    "0a11 0a0161 0a0162 120179 2206476174686572"  # the node: inputs a and b, output y, its operator
    "120167"  # the graph's name, g
    "5a09 0a0161 1204 0a020801"  # input a of float32
    "5a09 0a0162 1204 0a020807"  # input b of int64
    "6209 0a0179 1204 0a020801"  # output y of float32
    "4204 0a00100d"  # opset 13
)
