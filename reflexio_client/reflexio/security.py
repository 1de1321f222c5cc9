"""What protects a connection: TLS settings, and no secret in clear text to other machines."""

import os
import ssl
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Never

from reflexio.errors import ConfigurationError

_FILES = {
    "root_certificates": "REFLEXIO_CA_CERT",
    "client_certificate": "REFLEXIO_CLIENT_CERT",
    "client_key": "REFLEXIO_CLIENT_KEY",
}


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts; None where there is none.

    Attributes:
        root_certificates: the authorities to trust; None: those of the operating system.
        client_certificate: what the client shows to a server that asks for it, with its chain.
        client_key: the key of that certificate, without a passphrase.
    """

    root_certificates: bytes | None = field(default=None, repr=False)
    client_certificate: bytes | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, kind in zip(_FILES, ("CERTIFICATE", "CERTIFICATE", "PRIVATE KEY"), strict=True):
            value = getattr(self, name)
            if value is not None and not _is_pem(value, kind):
                raise ConfigurationError(
                    f"{name} (or the file {_FILES[name]} names) holds no {kind.lower()} in PEM form"
                )
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigurationError("client_certificate and client_key go together: one of them is missing")

    @property
    def given(self) -> bool:
        return any(getattr(self, name) is not None for name in _FILES)


def _is_pem(value: object, kind: str) -> bool:
    return isinstance(value, bytes) and b"-----BEGIN " in value and kind.encode() in value


def with_environment(tls: Tls) -> Tls:
    """What is not given, from the files that the environment names. Raises ConfigurationError."""
    found: dict[str, bytes | None] = {}
    for name, variable in _FILES.items():
        found[name] = getattr(tls, name)
        path = os.environ.get(variable)
        if found[name] is None and path:
            found[name] = read_pem(path, f", which {variable} names")
    return Tls(**found)


def read_pem(path: str, why: str = "") -> bytes:
    """What is in a file, `~` being the user's home; `why` is for the ConfigurationError where it cannot be read."""
    try:
        return Path(path).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(f"cannot read {path}{why}: {getattr(error, 'strerror', None) or error}") from None


@cache
def system_roots() -> bytes | None:
    """The operating system's authorities as PEM, None for those that grpc brings along.

    grpc alone trusts the ones it was built with, not what an organisation has installed. SSL_CERT_FILE names another
    file, as it does for other programs.
    """
    if os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        return None  # it was told which
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None


def insecure_allowed(given: bool) -> bool:
    """Whether secrets may go in clear text, by argument or environment."""
    return given or os.environ.get("REFLEXIO_ALLOW_INSECURE", "").strip().lower() in ("1", "true", "yes", "on")


def refuse_clear_text(secret: str, url: str) -> Never:
    """Raise instead of sending a secret where others can read it."""
    raise ConfigurationError(
        f"{secret} would go to {url} in clear text, where others can read it: use an https:// address; if the network "
        "in between is private, allow it with allow_insecure=True or REFLEXIO_ALLOW_INSECURE=1"
    )
