"""The note beside a folder of Chroma's that was closed in order: how far its collections were, and its files."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_as_closed(folder: Path, applied: Mapping[str, int]) -> bool:
    """Whether the folder was closed in order, its collections this far, and no file in it was touched since."""
    try:
        return bool(json.loads(_file(folder).read_text()) == _note(folder, applied))
    except (OSError, ValueError):
        return False


def note_closed(folder: Path, applied: Mapping[str, int]) -> None:
    with contextlib.suppress(OSError):
        _file(folder).write_text(json.dumps(_note(folder, applied)))


def forget_closed(folder: Path) -> None:
    _file(folder).unlink(missing_ok=True)


def _file(folder: Path) -> Path:
    return folder.with_suffix(".closed")


def _note(folder: Path, applied: Mapping[str, int]) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    return {"applied": dict(applied), "files": sizes}
