"""The command `python -m reflexio.spool flush`: to the servers it was meant for, or with --to where one is now."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from reflexio.channel import parse_url
from reflexio.client import ReflexioClient
from reflexio.errors import AuthenticationError, ConfigurationError, ReflexioError
from reflexio.ids import account_tag
from reflexio.security import Tls, read_pem
from reflexio.spool.reader import Overview
from reflexio.terminal import complain, say, shown

_SLICE_SECONDS = 0.2
_REPORT_SECONDS = 5.0  # between two lines on what does not get through
_ASKING_SECONDS = 15.0


def flush(folder: Path, options: argparse.Namespace, found: Sequence[Overview]) -> int:
    """Deliver what is found for the account of REFLEXIO_API_KEY; returns the exit code."""
    key = os.environ.get("REFLEXIO_API_KEY", "").strip()
    tag = account_tag(key)
    if tag is None:
        complain("set REFLEXIO_API_KEY to a key of the account whose requests are to be delivered")
        return 2
    end = time.monotonic() + options.timeout
    orphans = [one for one in found if not one.owned and one.rows]
    try:
        pem = Tls(read_pem(options.root_certificates)).root_certificates if options.root_certificates else None
    except ConfigurationError as error:
        complain(f"--root-certificates: {error}")
        return 2
    try:
        source = parse_url(options.source).url if options.source else ""
        target = parse_url(options.to).url if options.to else ""
        if source and not target:
            raise ConfigurationError("--from goes with --to")
    except ConfigurationError as error:
        complain(str(error))
        return 2
    mine = [one for one in orphans if one.tag == tag and source in ("", one.address)]
    clients: dict[str, ReflexioClient] = {}
    failed = 0
    for address in {target} if target else sorted({one.address for one in mine}):
        if not mine:
            break
        try:
            roots = pem if address.startswith("https:") else None
            clients[address] = ReflexioClient(key, address, spool_dir=folder, root_certificates=roots)
            if target:
                _ask_whose(clients[address], tag, min(options.timeout, _ASKING_SECONDS))
        except ReflexioError as error:
            complain(f"{address}: {error}")
            failed += 1
    if target and clients:
        moved = [one for one in mine if one.address != target]
        if failed or not _confirmed(moved, target, yes=options.yes):
            _close(clients)
            return 2
        for address in sorted({one.address for one in moved}):
            clients[target]._deliver_for(address)
    left = failed + _deliver(clients, end) + bool(target and orphans and not mine)
    for other in sorted({one.tag for one in orphans if one.tag != tag}):
        complain(
            f"account {other} has requests here too: they need a key of that account, or `export` and publish_many"
        )
    for one in found if target else ():
        if one.owned and one.rows and one.tag == tag and one.address != target:
            complain(f"process {one.pid} itself delivers {one.rows:,} to {one.address}: start it anew with {target}")
    if not mine:
        say(f"nothing to deliver in {shown(str(folder))}")
    return 1 if left else 0


def _ask_whose(client: ReflexioClient, tag: str, seconds: float) -> None:
    """Raise unless the server has the account that the requests belong to, as one that moved has."""
    elsewhere = (
        "A server that moved has the accounts and keys it had; to give the requests to another account, write them "
        "with `export` and publish them with publish_many and a key of that account"
    )
    try:
        found = client.who_am_i(timeout=seconds).account.tag
    except AuthenticationError as error:
        raise ConfigurationError(
            f"nothing was sent, for this server does not know the key ({error}). {elsewhere}"
        ) from None
    if found != tag:
        raise ConfigurationError(f"nothing was sent: here the key is account {found}'s, not {tag}'s. {elsewhere}")


def _confirmed(moved: Sequence[Overview], target: str, *, yes: bool) -> bool:
    for one in moved:
        complain(
            f"{one.rows:,} requests of account {one.tag}, {one.deletes:,} of them deletes, go to {target}, "
            f"not to {one.address}"
        )
    if yes or not moved:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        complain("nothing was sent: say --yes if this is right")
        return False
    sys.stderr.write("Is it the same server, with another address? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _deliver(clients: dict[str, ReflexioClient], end: float) -> int:
    """Deliver to all of them at once, saying what does not get through; returns how many requests are left."""
    going, left, report = dict(clients), 0, time.monotonic() + _REPORT_SECONDS
    while going:
        over, due = time.monotonic() >= end, time.monotonic() >= report
        for address, client in list(going.items()):
            result = client.flush(min(_SLICE_SECONDS, max(0.0, end - time.monotonic())))
            if result.delivered or over or client._is_refused:
                del going[address]
                stats = client.stats()
                said = f", {stats.rejected:,} refused" if stats.rejected else ""
                more = f", {result.pending:,} left: {result.error or 'the time was up'}" if result.pending else ""
                say(f"{shown(address)}: {stats.delivered:,} delivered{said}{shown(more)}")
                left += result.pending
            elif due:
                complain(
                    f"{address}: {result.pending:,} wait, for up to {end - time.monotonic():.0f} s more: "
                    f"{result.error or 'being delivered'}"
                )
        if due:
            report += _REPORT_SECONDS
    _close(clients)
    return left


def _close(clients: dict[str, ReflexioClient]) -> None:
    for client in clients.values():
        client.close(0)
