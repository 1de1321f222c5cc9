"""A server's certificate on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme


@dataclass
class Files:
    """A server's certificate on disk, the authority that made it, and the settings that name the files."""

    authority: trustme.CA
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cert, self.key, self.ca = (self.folder / f"{name}.pem" for name in ("cert", "key", "ca"))
        self.ca.write_bytes(self.roots)
        self.renew()

    @property
    def roots(self) -> bytes:
        return self.authority.cert_pem.bytes()

    def renew(self) -> None:
        made = self.authority.issue_cert("localhost", "127.0.0.1")
        self.key.write_bytes(made.private_key_pem.bytes())
        self.key.chmod(0o600)
        self.cert.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))

    @property
    def settings(self) -> dict[str, Any]:
        return {"tls_cert": self.cert, "tls_key": self.key}

    @property
    def flags(self) -> tuple[str, ...]:
        return "--tls-cert", str(self.cert), "--tls-key", str(self.key)
