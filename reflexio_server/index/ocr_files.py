"""The files of the networks that read pictures: which they are, and where they lie once they are installed."""

import hashlib
from pathlib import Path

from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.model_files import hash_file

READER_ID = "PP-OCRv6-tiny/1"
"""Names the networks and the version of how they are used: raised whenever the text of the same picture changes."""

DETECTOR, RECOGNIZER = "PP-OCRv6_det_tiny.onnx", "PP-OCRv6_rec_tiny.onnx"
NOTICE, LICENSE = "PP-OCRv6_NOTICE", "PP-OCRv6_LICENSE"
SHA256 = {
    DETECTOR: "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5",
    RECOGNIZER: "38cd559cb4b24c5056592d981b13e086f9472db9b3c8968296f0d0c2b4a65531",
    # Whose work the networks are, and what was changed in them: to be kept beside them.
    NOTICE: "890af82f8e38bf70093a76972da6c206d9bb7f89397e60f62e8dc2f15891185e",
    LICENSE: "3840c5c0c61c294264d2dd77b8777be6ddd90121ef4e0e64abcd22edea581d6e",
}
"""Of each file. The detector's is that of RapidOCR 3.10's list of PaddlePaddle's own."""


def find_fault(model_dir: Path) -> str | None:
    """What is wrong with the files in this folder of models, as a clause; None if all is well. Reads 3 MB."""
    for name, expected in SHA256.items():
        path = model_dir / name
        try:
            found = hash_file(path)
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
        if found != expected:
            return f"{path} is not the file that was published: its SHA-256 is another"
    return None


def read_checked(path: Path) -> bytes:
    """A file's content: the bytes that were checked are the bytes that are used.

    Raises:
        ModelMissing: it is not the file that was published.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise ModelMissing(f"{path} is not the file that was published")
    return content
