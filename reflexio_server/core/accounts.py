"""Accounts, passwords and API keys."""

import contextlib
import hashlib
import os
import re
import secrets
import string
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from cachetools import TTLCache
from passlib.hash import argon2

from reflexio.ids import KEY_PREFIX, TAG_LENGTH, account_tag, checksum, uuid7
from reflexio_server.clock import now_us
from reflexio_server.core import audit
from reflexio_server.core.logins import Logins
from reflexio_server.cores import move_elsewhere
from reflexio_server.errors import InvalidInput, NotFound, TooBusy, Unauthenticated, Violation, WrongPassword
from reflexio_server.model import Account, ApiKey, Caller
from reflexio_server.storage import accounts as store
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer

# OWASP's parameters for argon2id at 19 MiB; once per login, 20 to 30 ms.
_password_hash = argon2.using(type="ID", memory_cost=19 * 1024, rounds=2, parallelism=1)
_TAG_ALPHABET = string.ascii_lowercase + string.digits
_HINT_LENGTH = len(KEY_PREFIX) + TAG_LENGTH + 1 + 4
_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+")
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024

CHECKS_AT_ONCE = max(1, (os.cpu_count() or 1) // 4)
"""Each check of a password takes 19 MiB and a core, which publishing and searching have more use for."""

KEY_CACHE_SECONDS = 15
"""A key revoked by another process goes on working for at most this long; the contract allows 30."""


def normal_email(email: str) -> str:
    """The form an email is stored and looked up in; bytes of a command line that are no text make one that none has."""
    return email.strip().lower().encode(errors="backslashreplace").decode()


def new_account(email: str, password: str) -> tuple[str, str, str]:
    """Check a new account's email and password: its normal email, a tag and the password's hash.

    Raises InvalidInput naming what is wrong.
    """
    # What cannot be printed, control and direction marks among them, would make one account look like another.
    plain = email.strip().isprintable()
    email = normal_email(email)
    if not plain or not _EMAIL.fullmatch(email) or len(email) > 320:
        raise InvalidInput([Violation("email", "must look like name@example.com, at most 320 characters")])
    tag = "".join(secrets.choice(_TAG_ALPHABET) for _ in range(TAG_LENGTH))
    return email, tag, hash_password(password)


def hash_password(password: str) -> str:
    """What is stored of a password, in NFC: the same is typed in other forms elsewhere. Raises InvalidInput."""
    try:
        password.encode()
    except UnicodeEncodeError:
        raise InvalidInput([Violation("password", "must be UTF-8")]) from None
    if "\0" in password:
        raise InvalidInput([Violation("password", "must have no NUL character")])
    password = unicodedata.normalize("NFC", password)
    if not SHORTEST_PASSWORD <= len(password.encode()) <= LONGEST_PASSWORD:
        rule = f"must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} bytes"
        raise InvalidInput([Violation("password", rule)])
    hashed: str = _password_hash.hash(password)
    return hashed


class Accounts:
    """Logs callers in and knows them by their keys."""

    def __init__(self, database: Database, writer: Writer, logins: Logins | None = None) -> None:
        self._database = database
        self._writer = writer
        self._callers: TTLCache[bytes, Caller] = TTLCache(maxsize=10_000, ttl=KEY_CACHE_SECONDS)
        self._lock = threading.Lock()
        self._logins = logins or Logins()
        self._throttled = audit.Throttled()
        self._checks = ThreadPoolExecutor(CHECKS_AT_ONCE, thread_name_prefix="passwords", initializer=_let_others_first)
        # Checked when there is no such account, so that the answer takes as long: every hash has these parameters.
        self._nobody = _password_hash.hash(secrets.token_hex())

    def login(self, email: str, password: str, address: str = "local") -> tuple[str, ApiKey]:
        """A new key of the account, for who calls from this address.

        Raises WrongPassword for an unknown or disabled account and for a wrong password, all after the same work;
        TooBusy without any work, when too many logins failed or are in progress (see Logins).
        """
        email = normal_email(email)
        try:
            with self._logins.attempt(email, address):
                account = self._check_password(email, password, address)
        except TooBusy:
            self._throttled.count(address)
            raise
        body = f"{KEY_PREFIX}{account.tag}_{secrets.token_urlsafe(32)}"
        secret = body + checksum(body)
        key = ApiKey(uuid7(), secret[:_HINT_LENGTH], now_us(), None)
        mine = account.account_id
        self._writer.submit(lambda conn: store.add_key(conn, mine, key, _hash(secret)), [mine]).result()
        audit.record("login ok", account=account.tag, address=address, key_id=key.key_id)
        return secret, key

    def _check_password(self, email: str, password: str, address: str) -> Account:
        with self._database.read() as conn:
            found = store.find_login(conn, email)
        fits = self._checks.submit(_fits, password, found[1] if found else self._nobody).result()
        if found is None or not fits or found[0].disabled_at is not None:
            # What was typed as the email may be a password, so it is not told.
            audit.record("login refused", account=found[0].tag if found else "-", address=address)
            raise WrongPassword
        return found[0]

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

    def revoke_key(self, account: Account, key_id: str, address: str) -> ApiKey:
        """Revoke a key of the account, if it is not revoked already. Raises NotFound."""
        account_id = account.account_id
        revoke = self._writer.submit(lambda conn: store.revoke_key(conn, account_id, key_id, now_us()), [account_id])
        revoked = revoke.result()
        if revoked is None:
            raise NotFound("api_key")
        key, key_hash = revoked
        with self._lock:
            self._callers.pop(key_hash, None)
        audit.record("key revoked", account=account.tag, address=address, key_id=key.key_id)
        return key


def _fits(password: str, password_hash: str) -> bool:
    """Whether it is the password, as it is or in NFC, as hashes are made of that now; they were not always."""
    forms = dict.fromkeys((password, unicodedata.normalize("NFC", password)))
    return any(_password_hash.verify(form, password_hash) for form in forms)


def _let_others_first() -> None:
    """Have this thread leave Python's core, and give way to others: on Linux each has a niceness, setpriority(2).

    Measured: a login takes 0.34 s while other programs keep all cores busy; 2.3 s at 19, the lowest priority.
    Publishes beside a flood of logins are as quick with either.
    """
    move_elsewhere()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where that is forbidden; the executor would take no more work at all
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _hash(api_key: str) -> bytes:
    return hashlib.sha256(api_key.encode()).digest()
