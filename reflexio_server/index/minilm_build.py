"""MiniLM's weights -> an ONNX graph of fused operators -> the same graph in int8.

The graph takes one chunk without padding ("input_ids", int32, shape (1, tokens)) and gives its unit vector
("vector", float32, shape (1, 384)): no attention mask, and mean pooling and L2 are part of the graph.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from reflexio_server.index.minilm import DIMENSIONS, MAX_TOKENS

# From the model's config.json: num_hidden_layers, num_attention_heads, layer_norm_eps.
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12

_FUSED = "com.microsoft"  # onnxruntime's own operators
_OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid(_FUSED, 1)]
_IR_VERSION = 9  # the one that belongs to opset 18-20

Weights = Mapping[str, NDArray[np.float32]]


class _Graph:
    """Collects nodes and constants; everything is called by its name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output


def build_fp32(weights: Weights, path: Path) -> None:
    """Write the float32 graph.

    Args:
        weights: the tensors of model.safetensors, by their names there.
        path: the file to write, about 90 MB.

    Raises:
        KeyError: a tensor is missing from `weights`.
    """
    graph = _Graph()
    hidden = _add_embeddings(graph, weights)
    for number in range(_LAYERS):
        hidden = _add_layer(graph, weights, f"encoder.layer.{number}.", hidden)
    axis = graph.constant("token_axis", np.array([1], dtype=np.int64))
    mean = graph.node("ReduceMean", [hidden, axis], "mean", keepdims=0)
    vector = graph.node("LpNormalization", [mean], "vector", axis=-1, p=2)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT32, [1, "tokens"])],
            [helper.make_tensor_value_info(vector, TensorProto.FLOAT, [1, DIMENSIONS])],
            graph.constants,
        ),
        opset_imports=_OPSETS,
        ir_version=_IR_VERSION,
    )
    # Says that nothing is left to fuse; without it the quantizer warns through the root logger.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    onnx.save(model, str(path))


def build_int8(fp32: Path, int8: Path) -> None:
    """Write the graph in `fp32` with its weights in int8 to `int8`, about 23 MB.

    Activations are quantized as they come. A temporary file is written beside `fp32` meanwhile.
    """
    quantize_dynamic(
        fp32,
        int8,
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Shape inference does not know the fused operators; what they give is float.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def _add_embeddings(graph: _Graph, weights: Weights) -> str:
    prefix = "embeddings."
    words = graph.constant("words", weights[prefix + "word_embeddings.weight"])
    # Every token is of segment 0, so that segment's vector is added to the positions once and for all.
    positions = graph.constant(
        "positions",
        weights[prefix + "position_embeddings.weight"][:MAX_TOKENS]
        + weights[prefix + "token_type_embeddings.weight"][0],
    )
    gamma, beta = _add_norm(graph, weights, prefix + "LayerNorm")
    # The operator has a second output, a mask index, which nobody needs; it must be named all the same.
    graph.nodes.append(
        helper.make_node(
            "EmbedLayerNormalization",
            ["input_ids", "", words, positions, "", gamma, beta],
            ["embedded", "mask_index"],
            name="embedded",
            domain=_FUSED,
            epsilon=_EPSILON,
        )
    )
    return "embedded"


def _add_layer(graph: _Graph, weights: Weights, prefix: str, hidden: str) -> str:
    """Add one transformer layer; return the name of what it gives, shape (1, tokens, 384)."""

    def norm_after(projected: str, residual: str, part: str) -> str:
        gamma, beta = _add_norm(graph, weights, f"{prefix}{part}.LayerNorm")
        bias = graph.constant(f"{prefix}{part}.bias", weights[f"{prefix}{part}.dense.bias"])
        return graph.node(
            "SkipLayerNormalization",
            [projected, residual, gamma, beta, bias],
            f"{prefix}{part}.normed",
            _FUSED,
            epsilon=_EPSILON,
        )

    def project(inputs: str, part: str) -> str:
        # safetensors keep (outputs, inputs), as torch does; MatMul wants (inputs, outputs).
        matrix = graph.constant(f"{prefix}{part}.matrix", weights[f"{prefix}{part}.dense.weight"].T)
        return graph.node("MatMul", [inputs, matrix], f"{prefix}{part}.projected")

    query_key_value = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
    attended = graph.node(
        "Attention",
        [
            hidden,
            graph.constant(
                f"{prefix}qkv.matrix",
                np.concatenate([weights[f"{name}.weight"].T for name in query_key_value], axis=1),
            ),
            graph.constant(f"{prefix}qkv.bias", np.concatenate([weights[f"{name}.bias"] for name in query_key_value])),
        ],
        f"{prefix}attended",
        _FUSED,
        num_heads=_HEADS,
    )
    hidden = norm_after(project(attended, "attention.output"), hidden, "attention.output")
    widened = graph.node(
        "BiasGelu",
        [
            project(hidden, "intermediate"),
            graph.constant(f"{prefix}intermediate.bias", weights[f"{prefix}intermediate.dense.bias"]),
        ],
        f"{prefix}widened",
        _FUSED,
    )
    return norm_after(project(widened, "output"), hidden, "output")


def _add_norm(graph: _Graph, weights: Weights, prefix: str) -> tuple[str, str]:
    gamma = graph.constant(f"{prefix}.gamma", weights[f"{prefix}.weight"])
    beta = graph.constant(f"{prefix}.beta", weights[f"{prefix}.bias"])
    return gamma, beta
