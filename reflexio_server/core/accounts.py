"""Accounts, passwords and API keys."""

import hashlib
import re
import secrets
import string
import threading
import time

from cachetools import TTLCache
from passlib.hash import argon2

from reflexio.ids import KEY_PREFIX, TAG_LENGTH, account_tag, checksum, uuid7
from reflexio_server.errors import InvalidInput, NotFound, TooBusy, Unauthenticated, Violation
from reflexio_server.model import ApiKey, Caller
from reflexio_server.storage import accounts as store
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer

# OWASP's parameters for argon2id at 19 MiB; once per login, about 30 ms.
_password_hash = argon2.using(type="ID", memory_cost=19 * 1024, rounds=2, parallelism=1)
_TAG_ALPHABET = string.ascii_lowercase + string.digits
_HINT_LENGTH = len(KEY_PREFIX) + TAG_LENGTH + 1 + 4
_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+")
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024

LOGINS_AT_ONCE = 4
"""Each takes 19 MiB and a core for 30 ms: more at once would only take memory, and workers from other calls."""
LOGIN_WAIT_SECONDS = 2.0

KEY_CACHE_SECONDS = 15
"""A key revoked by another process goes on working for at most this long; the contract allows 30."""


def normal_email(email: str) -> str:
    """The form an email is stored and looked up in."""
    return email.strip().lower()


def new_account(email: str, password: str) -> tuple[str, str, str]:
    """Check a new account's email and password: its normal email, a tag and the password's hash.

    Raises InvalidInput naming what is wrong.
    """
    email = normal_email(email)
    if not _EMAIL.fullmatch(email) or len(email) > 320:
        raise InvalidInput([Violation("email", "must look like name@example.com, at most 320 characters")])
    if not SHORTEST_PASSWORD <= len(password.encode()) <= LONGEST_PASSWORD:
        rule = f"must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} bytes"
        raise InvalidInput([Violation("password", rule)])
    tag = "".join(secrets.choice(_TAG_ALPHABET) for _ in range(TAG_LENGTH))
    return email, tag, _password_hash.hash(password)


class Accounts:
    """Logs callers in and knows them by their keys."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self._callers: TTLCache[bytes, Caller] = TTLCache(maxsize=10_000, ttl=KEY_CACHE_SECONDS)
        self._lock = threading.Lock()
        self._logins = threading.BoundedSemaphore(LOGINS_AT_ONCE)
        # Checked when there is no such account, so that the answer takes as long.
        self._nobody = _password_hash.hash(secrets.token_hex())

    def login(self, email: str, password: str) -> tuple[str, ApiKey]:
        """A new key of the account.

        Raises Unauthenticated for an unknown account and for a wrong password, TooBusy when too many log in at once.
        """
        with self._database.read() as conn:
            found = store.find_login(conn, normal_email(email))
        if not self._logins.acquire(timeout=LOGIN_WAIT_SECONDS):
            raise TooBusy("logins")
        try:
            fits = _password_hash.verify(password, found[1] if found else self._nobody)
        finally:
            self._logins.release()
        if found is None or not fits:
            raise Unauthenticated
        account = found[0]
        body = f"{KEY_PREFIX}{account.tag}_{secrets.token_urlsafe(32)}"
        secret = body + checksum(body)
        key = ApiKey(uuid7(), secret[:_HINT_LENGTH], _now(), None)
        self._writer.submit(lambda conn: store.add_key(conn, account.account_id, key, _hash(secret))).result()
        return secret, key

    def authenticate(self, api_key: str) -> Caller:
        """Who a key belongs to. Raises Unauthenticated when it is malformed, unknown or revoked."""
        if account_tag(api_key) is None:
            raise Unauthenticated
        key_hash = _hash(api_key)
        with self._lock:
            caller: Caller | None = self._callers.get(key_hash)
        if caller is None:
            with self._database.read() as conn:
                caller = store.find_caller(conn, key_hash)
            if caller is None:
                raise Unauthenticated
            with self._lock:
                self._callers[key_hash] = caller
        return caller

    def list_keys(self, account_id: int, before: str | None, limit: int) -> list[ApiKey]:
        """Keys of an account, newest first, after the key with the id `before`."""
        with self._database.read() as conn:
            return store.list_keys(conn, account_id, before, limit)

    def revoke_key(self, account_id: int, key_id: str) -> ApiKey:
        """Revoke a key of the account, if it is not revoked already. Raises NotFound."""
        revoked = self._writer.submit(lambda conn: store.revoke_key(conn, account_id, key_id, _now())).result()
        if revoked is None:
            raise NotFound("api_key")
        key, key_hash = revoked
        with self._lock:
            self._callers.pop(key_hash, None)
        return key


def _hash(api_key: str) -> bytes:
    return hashlib.sha256(api_key.encode()).digest()


def _now() -> int:
    return time.time_ns() // 1000
