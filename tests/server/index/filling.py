"""An index with random vectors."""

import numpy as np
from numpy.typing import NDArray

from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.index.nearest import BATCH

DIMENSIONS = 256


def fill(index: ChromaIndex | ChromaProcess, name: str, stamps: range) -> NDArray[np.float32]:
    matrix = np.random.default_rng(stamps.start).standard_normal((len(stamps), DIMENSIONS)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    for start in range(0, len(stamps), BATCH):
        part = slice(start, start + BATCH)
        index.upsert(name, stamps[part], [1] * len(stamps[part]), matrix[part])
    return matrix
