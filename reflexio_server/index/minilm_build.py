"""MiniLM's weights -> an ONNX graph of fused operators, in float32 or in int8.

The graph takes one chunk without padding ("input_ids", int32, shape (1, tokens)) and gives its unit vector
("vector", float32, shape (1, 384)): no attention mask, and mean pooling and L2 are part of the graph.

In int8, weights are rounded here, activations as they come. It is the graph that onnxruntime.quantization makes of the
float32 one (quantize_dynamic, per channel, int8 weights); that needs the package `onnx`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reflexio_server.index import onnx_file
from reflexio_server.index.minilm import DIMENSIONS, MAX_TOKENS, Precision

# From the model's config.json: num_hidden_layers, num_attention_heads, layer_norm_eps.
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12

_FUSED = "com.microsoft"  # onnxruntime's own operators
_OPSETS = {"": 18, _FUSED: 1}
_IR_VERSION = 9  # the one that belongs to opset 18-20

Weights = Mapping[str, NDArray[np.float32]]


def build(weights: Weights, precision: Precision, path: Path) -> None:
    """Write the graph: about 90 MB in float32, 23 MB in int8. The same weights make the same bytes on every machine.

    Args:
        weights: the tensors of model.safetensors, by their names there.
        precision: of the matrices, and in int8 of the embeddings.
        path: the file to write.

    Raises:
        KeyError: a tensor is missing from `weights`.
    """
    graph = _Graph(weights) if precision == "fp32" else _Int8Graph(weights)
    hidden = graph.embed()
    for number in range(_LAYERS):
        hidden = graph.layer(f"encoder.layer.{number}.", hidden)
    axis = graph.constant("token_axis", np.array([1], dtype=np.int64))
    mean = graph.node("ReduceMean", [hidden, axis], "mean", keepdims=0)
    vector = graph.node("LpNormalization", [mean], "vector", axis=-1, p=2)
    content = onnx_file.model(
        "all-MiniLM-L6-v2",
        graph.nodes,
        graph.constants,
        [onnx_file.value("input_ids", onnx_file.INT32, [1, "tokens"])],
        [onnx_file.value(vector, onnx_file.FLOAT, [1, DIMENSIONS])],
        _OPSETS,
        _IR_VERSION,
    )
    path.write_bytes(content)


class _Graph:
    """Collects nodes and constants; everything is called by its name."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
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
        positions = self.weights[prefix + "position_embeddings.weight"][:MAX_TOKENS]
        return self.add_embedding(
            {
                "words": self.weights[prefix + "word_embeddings.weight"],
                "positions": positions + self.weights[prefix + "token_type_embeddings.weight"][0],
                "embedded.gamma": self.weights[prefix + "LayerNorm.weight"],
                "embedded.beta": self.weights[prefix + "LayerNorm.bias"],
            }
        )

    def layer(self, prefix: str, hidden: str) -> str:
        """Add one transformer layer; return the name of what it gives, shape (1, tokens, 384)."""
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
        return self.node(operator, inputs, "embedded", "mask_index", domain=_FUSED, epsilon=_EPSILON)

    def add_attention(self, inputs: str, name: str, matrix: NDArray[np.float32], bias: str, output: str) -> str:
        return self.node(
            "Attention", [inputs, self.constant(name, matrix), bias], output, domain=_FUSED, num_heads=_HEADS
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
            whole = np.clip((values / np.float32(step)).round() + np.float32(zero), 0, 255).astype(np.uint8)
            rounded.append(self.constant(name, whole))
            scales.append(self.constant(f"{name}.scale", np.array(step, np.float32)))
            zeros.append(self.constant(f"{name}.zero", np.array(zero, np.uint8)))
        first, second, third = (_without_segments(*names) for names in (rounded, scales, zeros))
        return self.embedding("QEmbedLayerNormalization", ["input_ids", "", *first, "", *second, *third])

    def add_attention(self, inputs: str, name: str, matrix: NDArray[np.float32], bias: str, output: str) -> str:
        rounded, scale, zero = self._round_columns(name, matrix)
        given, given_scale, given_zero = self._round_as_it_comes(inputs)
        every = [given, rounded, bias, given_scale, scale, "", given_zero, zero, ""]
        return self.node("QAttention", every, output, domain=_FUSED, num_heads=_HEADS)

    def add_product(self, inputs: str, name: str, matrix: NDArray[np.float32], output: str) -> str:
        rounded, scale, zero = self._round_columns(name, matrix)
        given, given_scale, given_zero = self._round_as_it_comes(inputs)
        whole = self.node("MatMulInteger", [given, rounded, given_zero, zero], f"{output}.whole")
        number = self.node("Cast", [whole], f"{output}.cast", to=onnx_file.FLOAT)
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


def _without_segments(words: str, positions: str, gamma: str, beta: str) -> list[str]:
    return [words, positions, "", gamma, beta]
