"""What a store on a Chroma server is known by: its own id, which its collections' names carry, and its token."""

import json
import re
import secrets
from pathlib import Path

STORE_FILE = "chroma-server.json"  # in the data directory

_TOKEN = re.compile(r"[!-~]{1,8192}")  # what a header takes


class TokenUnusable(Exception):
    """There is no token where it should be, or it is none; the text says which file it is, and not what is in it."""


def store_id(data_dir: Path) -> str:
    """The id of the store in this data directory, which is made when there is none: 16 hexadecimal digits.

    A copied folder is another store: were its collections those of the first, each would spoil the other's. So the
    file's own number is in it, which a copy's differs from.
    """
    file = data_dir / STORE_FILE
    try:
        noted = json.loads(file.read_text())
        if noted["inode"] == file.stat().st_ino and re.fullmatch("[0-9a-f]{16}", noted["store"]):
            return str(noted["store"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    store = secrets.token_hex(8)
    made = file.with_name(f".{file.name}.part")
    made.unlink(missing_ok=True)
    with made.open("x") as written:
        json.dump({"store": store, "inode": made.stat().st_ino}, written)
    made.rename(file)
    return store


def has_store(data_dir: Path) -> bool:
    """Whether its index was on a Chroma server, and may still be."""
    return (data_dir / STORE_FILE).exists()


def read_token(file: Path) -> str:
    """The token in a file, without the blanks around it.

    Raises TokenUnusable.
    """
    try:
        token = file.read_text().strip()
    except OSError as error:
        raise TokenUnusable(f"--chroma-token-file: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TokenUnusable(f"--chroma-token-file: {file} is no text") from None
    return checked_token(token, f"--chroma-token-file: {file} holds")


def checked_token(token: str, where: str) -> str:
    """The token, if it can be one; else TokenUnusable is raised, which says where."""
    if not _TOKEN.fullmatch(token):
        raise TokenUnusable(f"{where} no token: one line of printable ASCII without blanks, at most 8,192 characters")
    return token
