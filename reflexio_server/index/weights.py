"""Reads safetensors, the form in which both models' weights are published.

https://huggingface.co/docs/safetensors/index#format: the length of a JSON header, the header, then all numbers.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}


def read_weights(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file by their names, as views of its bytes.

    Raises:
        ValueError: it is no such file, or holds numbers of another type than the models'.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, tensor in header.items():
        if tensor["dtype"] not in _TYPES:
            raise ValueError(f"{name} is of type {tensor['dtype']}")
        begin, end = tensor["data_offsets"]
        numbers = np.frombuffer(memoryview(content)[start + begin : start + end], _TYPES[tensor["dtype"]])
        tensors[name] = numbers.reshape(tensor["shape"])
    return tensors
