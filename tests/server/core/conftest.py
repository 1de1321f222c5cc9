from typing import Any

import pytest

from reflexio_server.index import chroma_check, chroma_folder
from reflexio_server.index.chroma import ChromaIndex
from tests.server.core.recovery import Asked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    counted = Asked()
    query, upsert, check = ChromaIndex.query, ChromaIndex.upsert, chroma_check.check

    def count(name: str, function: Any) -> Any:
        def counting(*given: Any, **named: Any) -> Any:
            setattr(counted, name, getattr(counted, name) + 1)
            return function(*given, **named)

        return counting

    monkeypatch.setattr(ChromaIndex, "query", count("queries", query))
    monkeypatch.setattr(ChromaIndex, "upsert", count("upserts", upsert))
    monkeypatch.setattr(chroma_folder, "check", count("checks", check))
    return counted
