"""Where a call comes from."""

import ipaddress
from urllib.parse import unquote

import grpc

_HOME_BITS = 64  # an IPv6 network this small is one home or one machine, which can use all its addresses


def address_of(context: grpc.ServicerContext) -> str:
    """Who is at the other end: an IPv4 address, an IPv6 network of /64, or "local" for a socket file."""
    kind, _, rest = str(context.peer()).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return "local"
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _HOME_BITS), strict=False))
    return str(address)
