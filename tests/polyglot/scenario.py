"""Reading scenario.json: what is too large to write down, or belongs to the run, is put in where `$` stands.

`{"$repeat": [text, n]}` is a text n times, `{"$list": [value, n]}` a value n times, `{"$zeros": n}` and `{"$noise": n}`
are n bytes as base64, `{"$given": key}` in what is expected is that part of what is given, and `"$name"` is a value of
the run.
"""

import base64
import json
import random
from pathlib import Path
from typing import Any

SCENARIO = Path(__file__).with_name("scenario.json")
_NOISE_SEED = 1


def read_scenario(**values: str) -> dict[str, Any]:
    """What is given in each section, under `given`, with the values of a run."""
    return {name: {"given": _expand(section.get("given"), None, values)} for name, section in _read().items()}


def read_expected() -> dict[str, Any]:
    """What a program must report of each section."""
    return {name: _expand(section["expect"], section.get("given"), {}) for name, section in _read().items()}


def _read() -> dict[str, Any]:
    scenario: dict[str, Any] = json.loads(SCENARIO.read_text(encoding="utf-8"))
    return scenario


def _expand(value: Any, given: Any, values: dict[str, str]) -> Any:
    match value:
        case {"$repeat": [str(text), int(count)]}:
            return text * count
        case {"$list": [item, int(count)]}:
            return [_expand(item, given, values)] * count
        case {"$zeros": int(count)}:
            return base64.b64encode(bytes(count)).decode()
        case {"$noise": int(count)}:
            return base64.b64encode(random.Random(_NOISE_SEED).randbytes(count)).decode()
        case {"$given": str(key)}:
            return _expand(given[key], given, values)
        case dict():
            return {key: _expand(item, given, values) for key, item in value.items()}
        case list():
            return [_expand(item, given, values) for item in value]
        case str() if value.startswith("$"):
            return values[value[1:]]
    return value
