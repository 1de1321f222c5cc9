"""What a Chroma collection must hold, told from the vectors in SQL."""

import random

import numpy as np
from sqlalchemy import Connection

from reflexio_server.index.chroma_check import SAMPLES, Expected, fingerprints
from reflexio_server.storage import forgetting, vectors
from reflexio_server.storage.collections import Collection

_READ_AT_ONCE = 5_000  # vectors, 8 MB


def expected_of(conn: Connection, collection: Collection) -> Expected:
    """All vectors up to `applied` by their fingerprints, and a random few of them to search for."""
    account_id, model, applied = collection.account_id, collection.model, collection.applied
    stamps = vectors.applied_stamps(conn, account_id, model, applied).tolist()
    prints = [np.zeros(0, dtype=np.float32)]
    for start in range(0, len(stamps), _READ_AT_ONCE):
        part = vectors.after(conn, account_id, model, stamps[start] - 1, min(_READ_AT_ONCE, len(stamps) - start))
        prints.append(fingerprints(part.matrix))
    samples = vectors.blobs(conn, random.sample(stamps, min(SAMPLES, len(stamps))))
    newest = vectors.newest_stamp(conn, account_id, model)
    erased = forgetting.pending_of_model(conn, account_id, model)
    return Expected.of(collection.name, applied, newest, erased, stamps, np.concatenate(prints), samples)
