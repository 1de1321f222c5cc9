"""Opens a network on onnxruntime as all of this server's are run: on the processor, by the thread that asks."""

from typing import Any

import onnxruntime


def open_session(network: str | bytes) -> Any:
    """An onnxruntime.InferenceSession of a file's path, or of a file's content.

    Raises what onnxruntime does, which has no class of its own for a file that it cannot read.
    """
    options = onnxruntime.SessionOptions()
    # The server's own threads are the parallelism; a pool that spins would take their cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
