"""The model as an ONNX file, and sentence-transformers over ONNX Runtime and OpenVINO.

sentence-transformers runs these runtimes through packages that do not install beside its version 6. What it would do is
done here: its own ``predict``, with the network exchanged for one that hands each padded batch to the runtime.
"""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from biorerank_plugins.speed.rerankers import batch_sizes, load, pick_batch_size
from biorerank_plugins.speed.rounds import NotPossibleError
from biorerank_plugins.speed.systems import Setting, System

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

__all__ = ["export_onnx", "need_cpu", "onnx_session", "root_logger_kept", "st_onnx", "st_openvino"]

Run: TypeAlias = "Callable[[dict[str, NDArray[np.int64]]], NDArray[np.float32]]"

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPSET = 17
# Some allocators that are loaded before Python make OpenVINO end the process, which no except clause survives.
_PROBE = "import sys, openvino; openvino.Core().compile_model(sys.argv[1], 'CPU')"


def need_cpu(setting: Setting, library: str) -> None:
    """Refuse to compare a library on the CPU with others on a GPU."""
    if setting.device != "cpu":
        raise NotPossibleError(f"{library} runs on the CPU here, the others on {setting.device}.")


def export_onnx(setting: Setting) -> Path:
    """Return the model as an ONNX file with fp32 weights; it is exported once for all systems.

    Attention is written out as matrix products: ONNX Runtime is faster so than with the fused form.

    :param setting: what all systems share.
    """
    target = setting.work / "model.onnx"
    if "onnx" in setting.kept:
        return target
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network: Any = AutoModelForSequenceClassification.from_pretrained(
        setting.folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    words = AutoTokenizer.from_pretrained(setting.folder, local_files_only=True)
    example = words([("a", "b c"), ("a", "b")], padding=True, return_tensors="pt")
    taken = inspect.signature(network.forward).parameters
    names = [name for name in _INPUTS if name in example and name in taken]

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.network(**dict(zip(names, given, strict=True))).logits
            return logits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package, and of tracing
        torch.onnx.export(
            Logits().eval(),
            tuple(example[name] for name in names),
            str(target),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "pairs", 1: "tokens"} for name in names} | {"logits": {0: "pairs"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    setting.kept["onnx"] = True
    return target


def onnx_session(path: Path, threads: int) -> Any:
    """Open an ONNX file with ONNX Runtime's default options, but for the threads, which are those of all systems.

    :param path: the file.
    :param threads: threads inside an operator.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Keep libraries from setting up the root logger: ``basicConfig`` does nothing where a handler is."""
    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def st_onnx(setting: Setting) -> System:
    """``predict`` over ONNX Runtime, fp32, with the fastest of several batch sizes."""
    need_cpu(setting, "ONNX Runtime")
    session = onnx_session(export_onnx(setting), setting.threads)
    known = {given.name for given in session.get_inputs()}

    def run(inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = session.run(None, {k: v for k, v in inputs.items() if k in known})[0]
        return result

    model = _over(load(setting, "float32"), run)
    return pick_batch_size(batch_sizes(model, "float32", "ONNX Runtime fp32", setting), setting)


def st_openvino(setting: Setting, *, dtype: str) -> System:
    """``predict`` over OpenVINO with the fastest of several batch sizes."""
    need_cpu(setting, "OpenVINO")
    import openvino

    path = export_onnx(setting)
    _probe_openvino(setting, path)
    precision = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    # Read as a file: the converter of Python models reports each use over the network.
    compiled = openvino.Core().compile_model(
        str(path),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": setting.threads,
        },
    )
    if dtype == "bfloat16" and str(compiled.get_property("INFERENCE_PRECISION_HINT")) != str(openvino.Type.bf16):
        raise NotPossibleError("OpenVINO does not compute in bf16 on this CPU.")
    request = compiled.create_infer_request()
    known = {name for given in compiled.inputs for name in given.names}

    def run(inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        found = request.infer({k: v for k, v in inputs.items() if k in known})
        return np.array(found[0], dtype=np.float32)

    model = _over(load(setting, "float32"), run)
    return pick_batch_size(batch_sizes(model, dtype, f"OpenVINO {dtype}", setting), setting)


def _probe_openvino(setting: Setting, path: Path) -> None:
    if "openvino" not in setting.kept:
        done = subprocess.run([sys.executable, "-c", _PROBE, str(path)], capture_output=True, check=False, timeout=600)
        setting.kept["openvino"] = done.returncode
    if setting.kept["openvino"] != 0:
        preloaded = os.environ.get("LD_PRELOAD")
        way_out = f" Try without the preloaded {Path(preloaded).name}." if preloaded else ""
        raise NotPossibleError(f"OpenVINO ends the process when it compiles the model.{way_out}")


def _over(model: CrossEncoder, run: Run) -> CrossEncoder:
    """Exchange the network of a loaded cross-encoder for one that calls ``run``."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Network(torch.nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config
            self.device = torch.device("cpu")

        def forward(self, **inputs: Any) -> SequenceClassifierOutput:
            arrays = {name: inputs[name].numpy() for name in _INPUTS if name in inputs}
            return SequenceClassifierOutput(logits=torch.from_numpy(run(arrays)))

    transformer: Any = model[0]
    transformer.model = Network(transformer.model.config)
    return model
