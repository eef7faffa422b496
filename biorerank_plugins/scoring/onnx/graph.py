"""BERT with a classification head as an ONNX graph, in fp32 or with int8 weights.

Built from the packed network rather than traced: queries, keys and values are one product, only the first token goes
through the last layer, and each quantised product can be given its own scales. ONNX Runtime's own fused attention is
slower on short sequences than the products it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

    from biorerank_plugins.runtime.packed.bert import PackedBert
    from biorerank_plugins.scoring.onnx.quantization import QuantizedLinear

GRAPH_VERSION = 1
"""Raised whenever the graph computes something else, so that files of older versions are built again."""

_OPSET = 18
_IR = 9
_RUNTIME = "com.microsoft"  # operators that ONNX Runtime adds

Floats = NDArray[np.float32]


def bert_graph(network: PackedBert, quantized: Mapping[str, QuantizedLinear]) -> onnx.ModelProto:
    """Return the graph: ``ids`` and ``places`` int32 [B, S], ``mask`` fp32 [B, S] ► ``logits`` [B].

    The mask is 0 at tokens and very negative at padding.

    :param network: the weights, fp32 on the CPU.
    :param quantized: the linear layers to compute in int8, by ``"{layer}.{qkv|out|up|down}"``; the others stay fp32.
    """
    return _Builder(quantized).build(network)


class _Builder:
    def __init__(self, quantized: Mapping[str, QuantizedLinear]) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._arrays = helper, numpy_helper
        self._quantized = quantized
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def build(self, network: PackedBert) -> onnx.ModelProto:
        from onnx import TensorProto

        x = self._op("Add", self._rows(network.words, "ids"), self._rows(network.places, "places"))
        x = self._norm(x, network.norm)
        if network.project is not None:
            x = self._linear(x, network.project, "project")
        mask = self._op("Unsqueeze", "mask", self._constant(np.array([1, 2])))
        layers = [*network.layers, network.last_layer]
        for number, layer in enumerate(layers):
            x = self._layer(x, layer, number, mask, last=number == len(layers) - 1)
        x = self._op("Squeeze", x, self._constant(np.array([1])))
        x = self._activate(self._linear(x, network.dense, "dense"), network.activation)
        logits = self._linear(x, network.out, "head")
        self._nodes.append(
            self._helper.make_node("Squeeze", [logits, self._constant(np.array([1]))], ["logits"], name="logits")
        )
        value = self._helper.make_tensor_value_info
        graph = self._helper.make_graph(
            self._nodes,
            "reranker",
            [
                value("ids", TensorProto.INT32, ["pairs", "tokens"]),
                value("places", TensorProto.INT32, ["pairs", "tokens"]),
                value("mask", TensorProto.FLOAT, ["pairs", "tokens"]),
            ],
            [value("logits", TensorProto.FLOAT, ["pairs"])],
            self._constants,
        )
        versions = [self._helper.make_opsetid("", _OPSET), self._helper.make_opsetid(_RUNTIME, 1)]
        model: onnx.ModelProto = self._helper.make_model(graph, opset_imports=versions, ir_version=_IR)
        return model

    def _layer(self, x: str, layer: Any, number: int, mask: str, *, last: bool) -> str:
        # Dividing by the root of the size is done to the weights: one pass less over the products.
        width, scale = layer.heads * layer.size, np.float32(layer.size**-0.5)
        weight, bias = _array(layer.qkv.weight).copy(), _array(layer.qkv.bias).copy()
        weight[:width] *= scale
        bias[:width] *= scale
        read = self._attention(self._product(x, weight, bias, f"{number}.qkv"), layer, mask)
        if last:
            first = self._constant(np.array([0]))
            read, x = (self._op("Gather", part, first, axis=1) for part in (read, x))
        x = self._norm(self._op("Add", self._linear(read, layer.out, f"{number}.out"), x), layer.out_norm)
        up = self._activate(self._linear(x, layer.up, f"{number}.up"), layer.activation)
        return self._norm(self._op("Add", self._linear(up, layer.down, f"{number}.down"), x), layer.down_norm)

    def _attention(self, qkv: str, layer: Any, mask: str) -> str:
        heads, size = layer.heads, layer.size
        parts = self._op("Reshape", qkv, self._constant(np.array([0, 0, 3, heads, size])))
        parts = self._op("Transpose", parts, perm=[2, 0, 3, 1, 4])  # [3, B, heads, S, size]
        q, k, v = (self._op("Gather", parts, self._constant(np.array(i)), axis=0) for i in range(3))
        products = self._op("MatMul", q, self._op("Transpose", k, perm=[0, 1, 3, 2]))
        weights = self._op("Softmax", self._op("Add", products, mask), axis=-1)
        read = self._op("Transpose", self._op("MatMul", weights, v), perm=[0, 2, 1, 3])
        return self._op("Reshape", read, self._constant(np.array([0, 0, heads * size])))

    def _linear(self, x: str, layer: Any, name: str) -> str:
        return self._product(x, _array(layer.weight), _array(layer.bias), name)

    def _product(self, x: str, weight: Floats, bias: Floats, name: str) -> str:
        scales = self._quantized.get(name)
        if scales is None:
            return self._op("Add", self._op("MatMul", x, self._constant(weight.T)), self._constant(bias))
        product = scales.apply(weight)
        x = self._op("Mul", x, self._constant(product.input_factor))
        scale, zero = self._constant(product.input_scale), self._constant(product.input_zero)
        integers = self._op("QuantizeLinear", x, scale, zero)
        no_zeros = self._constant(np.zeros(len(bias), np.int8))
        weights, weight_scale = self._constant(product.weight), self._constant(product.weight_scale)
        inputs = (integers, weights, scale, weight_scale, zero, no_zeros, self._constant(bias))
        return self._op("MatMulIntegerToFloat", *inputs, domain=_RUNTIME)

    def _norm(self, x: str, norm: Any) -> str:
        weights = self._constant(_array(norm.weight)), self._constant(_array(norm.bias))
        return self._op("LayerNormalization", x, *weights, axis=-1, epsilon=norm.epsilon)

    def _activate(self, x: str, function: Any) -> str:
        name = activation_name(function)
        if name == "gelu":
            return self._op("Gelu", x, domain=_RUNTIME)
        return self._op({"gelu_tanh": "FastGelu"}.get(name, name), x, domain=_RUNTIME if name == "gelu_tanh" else "")

    def _rows(self, table: Any, indices: str) -> str:
        return self._op("Gather", self._constant(_array(table)), indices)

    def _constant(self, values: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(self._arrays.from_array(np.asarray(values, order="C"), name))
        return name

    def _op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{kind}_{len(self._nodes)}"
        node = self._helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes)
        self._nodes.append(node)
        return name


def activation_name(function: Any) -> str:
    """Return the operator of an activation: ``"gelu"``, ``"gelu_tanh"``, ``"Relu"`` or ``"Tanh"``.

    :raises ValueError: if it is another one.
    """
    names = {
        "GELUActivation": "gelu",
        "gelu": "gelu",
        "GELU": "gelu",
        "NewGELUActivation": "gelu_tanh",
        "GELUTanh": "gelu_tanh",
        "ReLU": "Relu",
        "relu": "Relu",
        "Tanh": "Tanh",
        "tanh": "Tanh",
    }
    name = getattr(function, "__name__", type(function).__name__)
    if name not in names:
        raise ValueError(f"The activation {name} has no ONNX form here.")
    return names[name]


def _array(tensor: Any) -> Floats:
    array: Floats = tensor.detach().float().cpu().numpy()
    return array
