"""`reflexio-server health`: whether a server serves, as an exit code, for probes. Loads little: it is asked often."""

import ipaddress
import math
from pathlib import Path

import click

from reflexio_server.cli.settings import settings_options
from reflexio_server.config import Settings

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings_options("host", "port", "tls_cert", "tls_key")
@click.option(
    "--ca-cert",
    type=_FILE,
    envvar="REFLEXIO_CA_CERT",
    show_envvar=True,
    help="PEM file of the authorities to trust. Default: the certificate of --tls-cert. Without both, no TLS.",
)
@click.option(
    "--client-cert",
    type=_FILE,
    envvar="REFLEXIO_CLIENT_CERT",
    show_envvar=True,
    help="PEM file to show to a server that asks for a certificate.",
)
@click.option(
    "--client-key",
    type=_FILE,
    envvar="REFLEXIO_CLIENT_KEY",
    show_envvar=True,
    help="PEM file of that certificate's key.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=3600, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the answer.",
)
def health(
    settings: Settings, ca_cert: Path | None, client_cert: Path | None, client_key: Path | None, timeout: float
) -> None:
    """Ask a running server whether it serves: exit code 0 if it does, else 1 and the reason."""
    from reflexio_server.rpc.probe import Trust, fault

    if math.isnan(timeout):  # which no range leaves out
        raise click.BadParameter("must be a number of seconds", param_hint="--timeout")
    if not settings.port:
        raise click.UsageError("--port (or REFLEXIO_PORT): a server that took a free port must be asked at that one")
    if (client_cert is None) != (client_key is None):
        raise click.UsageError("--client-cert and --client-key go together: one of them is missing")
    host = asked(settings.host)
    trust = None
    if trusted := ca_cert or settings.tls_cert:
        # Of a server on this machine, or of its very certificate, the name says nothing more.
        trust = Trust(trusted, client_cert, client_key, any_name=ca_cert is None or _is_loopback(host))
    address = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
    if reason := fault(host, settings.port, address, trust, timeout):
        raise click.ClickException(f"{address} does not serve: {reason}")
    click.echo("serving")


def asked(host: str) -> str:
    """Where to ask a server that listens on `host`: on this machine, if it listens on every address."""
    host = host.strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return ("::1" if address.version == 6 else "127.0.0.1") if address.is_unspecified else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
