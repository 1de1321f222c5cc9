"""What holds in every database at any moment, of the store of this run."""

from pathlib import Path

from tests import stores
from tools import soundness


def faults(data_dir: Path) -> dict[str, int]:
    """What is wrong with a data directory's database, and how often; seen from outside of the server."""
    return soundness.faults(data_dir, stores.databases.of(data_dir) if stores.databases is not None else None)
