"""What reading a picture may use up: imported by the server and by the process that reads."""

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What reading a picture may use up, and give.

    Attributes:
        pixels: of a picture; one that has more by its header is unreadable, and not decoded. A screen of 7680×4320 has
            33.2 million.
        cpu_seconds: of processor time for one picture; one that takes more is unreadable, and after half of it
            no more lines are read. An ordinary one takes 0.1 to 0.5.
        seconds: by the clock; one that takes more, on a machine that has much else to do, is to be read later.
        memory: bytes of data of the process, networks and picture together; on Linux. A picture that takes more is
            unreadable. Ordinary ones take 300 MiB, and a WebP of 34 million pixels 800.
        characters: of a text; the rest is cut off.
        idle_seconds: the process ends after so long without a picture, and gives its memory back.
    """

    pixels: int = 34_000_000
    cpu_seconds: int = 20
    seconds: float = 120.0
    memory: int = 900 * _MIB
    characters: int = 20_000
    idle_seconds: float = 60.0
