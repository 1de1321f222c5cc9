"""A disk that forgets: replays recorded writes up to a cut, and loses, tears and shuffles what was not synced."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
_HEAD = struct.Struct("=cHQQ")


@dataclass(frozen=True, slots=True)
class Change:
    """One record of the log: W(rite), T(runcate), S(ync), D(irectory sync), U(nlink), R(ename)."""

    kind: str
    name: str
    offset: int
    data: bytes


def read_log(path: Path) -> list[Change]:
    """Every change in its order; what recorder.c wrote."""
    raw = path.read_bytes()
    changes = []
    at = 0
    while at < len(raw):
        kind, name_length, offset, length = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        name = raw[at : at + name_length].decode()
        at += name_length
        changes.append(Change(kind.decode(), name, offset, raw[at : at + length]))
        at += length
    return changes


@dataclass(slots=True, eq=False)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def after_cut(self, chosen: random.Random) -> bytes:
        """What was synced, with none, some or all sectors of the rest, in any order."""
        content = bytearray(self.durable)
        share = chosen.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        kept = [part for change in self.pending for part in _sectors(change) if chosen.random() < share]
        if not any(change.kind == "T" for change in kept):
            chosen.shuffle(kept)
        for part in kept:
            _apply(content, part)
        return bytes(content)


class Disk:
    """Names and files, each as it is now and as it surely is on disk: a name is sure when its folder was synced."""

    def __init__(self) -> None:
        self._now: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._names_pending: list[tuple[dict[str, _File], set[str]]] = []  # (links, names that go), in order

    def apply(self, change: Change) -> None:
        match change.kind:
            case "W" | "T":
                if change.name not in self._now:
                    self._now[change.name] = _File()
                    self._names_pending.append(({change.name: self._now[change.name]}, set()))
                self._now[change.name].pending.append(change)
            case "S":
                if change.name in self._now:
                    self._now[change.name].sync()
            case "D":
                self._durable = dict(self._now)
                self._names_pending.clear()
            case "U":
                if self._now.pop(change.name, None) is not None:
                    self._names_pending.append(({}, {change.name}))
            case "R":
                self._now[change.data.decode()] = moved = self._now.pop(change.name)
                self._names_pending.append(({change.data.decode(): moved}, {change.name}))
            case _:
                raise ValueError(f"{change.name} was changed in a way that the recorder cannot see: {change.kind}")

    def after_cut(self, chosen: random.Random) -> dict[str, bytes]:
        """The files found when the power is back. Changes of names reach a disk in their order, if they do."""
        names = dict(self._durable)
        for links, gone in self._names_pending[: chosen.randint(0, len(self._names_pending))]:
            for name in gone:
                names.pop(name, None)
            names |= links
        return {name: file.after_cut(chosen) for name, file in names.items()}


def _apply(content: bytearray, change: Change) -> None:
    if change.kind == "T":
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
    else:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data


def _sectors(change: Change) -> Iterator[Change]:
    """A write in the pieces that reach a disk whole or not at all."""
    if change.kind == "T":
        yield change
        return
    at = 0
    while at < len(change.data):
        size = SECTOR - (change.offset + at) % SECTOR
        yield Change("W", change.name, change.offset + at, change.data[at : at + size])
        at += size
