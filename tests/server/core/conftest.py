from typing import Any

import pytest

from reflexio_server.index.chroma_process import ChromaProcess
from tests.server.core.recovery import Asked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    counted = Asked()
    query, upsert, opened = ChromaProcess.query, ChromaProcess.upsert, ChromaProcess.open

    def count(name: str, function: Any) -> Any:
        def counting(*given: Any, **named: Any) -> Any:
            setattr(counted, name, getattr(counted, name) + 1)
            return function(*given, **named)

        return counting

    def opening(process: ChromaProcess, *, suspect: bool = False) -> str | None:
        counted.checks += suspect
        return opened(process, suspect=suspect)

    monkeypatch.setattr(ChromaProcess, "query", count("queries", query))
    monkeypatch.setattr(ChromaProcess, "upsert", count("upserts", upsert))
    monkeypatch.setattr(ChromaProcess, "open", opening)
    return counted
