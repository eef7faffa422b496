"""What the device can do at most: matrix products and copies, measured here, not taken from a data sheet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["Roofline", "measure_roofline"]

_SIZES = {"cpu": (512, 1024), "cuda": (4096, 8192)}
_COPIED = 1 << 26  # floats: more than fits into a cache


@dataclass(frozen=True, slots=True)
class Roofline:
    """The best rates that were seen.

    :param operations: operations a second in a matrix product (a multiplication and an addition are two), by dtype.
    :param by: the library that reached it, by dtype.
    :param copied: bytes a second, read and written, of a copy in memory.
    """

    operations: dict[str, float]
    by: dict[str, str]
    copied: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "operations_per_second": self.operations,
            "by": self.by,
            "copied_bytes_per_second": self.copied,
        }

    def share(self, operations: float, seconds: float, dtype: str) -> float | None:
        """Return which share of the best rate was reached; ``None`` for a dtype that was not measured.

        :param operations: that were asked for.
        :param seconds: that they took.
        :param dtype: ``"float32"``, ``"bfloat16"``, …
        """
        best = self.operations.get(dtype)
        return operations / seconds / best if best else None


def measure_roofline(device: str, threads: int, *, seconds: float = 0.5, sizes: tuple[int, ...] = ()) -> Roofline:
    """Measure the device.

    Square matrix products in each dtype, by torch and, on a CPU, by ONNX Runtime: whichever is faster counts, since
    systems use the one or the other.

    :param device: name of a torch device.
    :param threads: threads on the CPU.
    :param seconds: spent on each product.
    :param sizes: rows and columns of the matrices; none given chooses by device.
    """
    import torch

    at = torch.device(device)
    operations: dict[str, float] = {}
    by: dict[str, str] = {}
    for size in sizes or _SIZES.get(at.type, _SIZES["cpu"]):
        for dtype, library, product in _products(at, size, threads):
            try:
                rate = 2 * size**3 / _least_seconds(product, at, seconds)
            except (RuntimeError, NotImplementedError):  # not on this device
                continue
            if rate > operations.get(dtype, 0):
                operations[dtype], by[dtype] = rate, library
    source = torch.zeros(_COPIED, device=at)
    target = torch.empty_like(source)
    copied = 2 * source.element_size() * _COPIED / _least_seconds(lambda: target.copy_(source), at, seconds)
    return Roofline(operations, by, copied)


def _least_seconds(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        wait()
        started = time.perf_counter()
        call()
        wait()
        best = min(best, time.perf_counter() - started)
    return best


def _products(device: torch.device, size: int, threads: int) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    import torch

    for dtype in (torch.float32, torch.bfloat16, *((torch.float16,) if device.type == "cuda" else ())):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in "ab")
        yield str(dtype).removeprefix("torch."), "torch", lambda a=a, b=b: a @ b  # type: ignore[misc]
    whole = torch.randint(-127, 128, (2, size, size), device=device, dtype=torch.int8)
    multiply: Any = torch._int_mm
    yield "int8", "torch", lambda: multiply(whole[0], whole[1])
    if device.type == "cpu":
        yield from _onnx_products(size, threads)


def _onnx_products(size: int, threads: int) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return
    import numpy as np

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    random = np.random.default_rng(0)
    floats = random.standard_normal((size, size), dtype=np.float32)
    signed = random.integers(-127, 128, (size, size), dtype=np.int8)
    unsigned = random.integers(0, 256, (size, size), dtype=np.uint8)
    kinds = (
        ("float32", "MatMul", floats, floats, TensorProto.FLOAT, TensorProto.FLOAT),
        ("int8", "MatMulInteger", unsigned, signed, TensorProto.UINT8, TensorProto.INT32),
    )
    for dtype, operator, left, right, given, result in kinds:
        graph = helper.make_graph(
            [helper.make_node(operator, ["left", "right"], ["product"])],
            "product",
            [helper.make_tensor_value_info("left", given, [size, size])],
            [helper.make_tensor_value_info("product", result, [size, size])],
            [numpy_helper.from_array(right, "right")],  # constant, as weights are: it is packed once
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        yield dtype, "onnxruntime", lambda s=session, x=left: s.run(None, {"left": x})  # type: ignore[misc]
