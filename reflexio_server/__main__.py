"""`reflexio-server` and `python -m reflexio_server`: the command, or in a line why this installation cannot run it."""

import sys
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "reflexio-grpc"


def main() -> None:
    """Run the command of `sys.argv`; exits with 1 and a line on standard error when something is not installed."""
    try:
        if fault := client_fault():
            raise SystemExit(f"Error: {fault}")
        if sys.argv[1:2] == ["health"]:  # asked every few seconds, it loads nothing that it does not need
            from reflexio_server.cli.health import health

            health(args=sys.argv[2:], prog_name="reflexio-server health")
        else:
            from reflexio_server.cli.main import main as run

            run(prog_name="reflexio-server")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "reflexio_server"):
            raise
        if package == "reflexio":
            raise SystemExit(f"Error: {error}, which is part of {DISTRIBUTION}: {_REINSTALL}") from None
        raise SystemExit(
            f"Error: the server needs the module {package}, which a base install of {DISTRIBUTION} does not bring. "
            f"Run: pip install '{DISTRIBUTION}[server]'"
        ) from None


_REINSTALL = f"run pip install --force-reinstall '{DISTRIBUTION}[server]'"


def client_fault() -> str | None:
    """What is wrong with what is found as `reflexio`, the package that the server shares with the client; else None.

    It is looked at without being imported: other people's software has the same import name.
    """
    spec = find_spec("reflexio")
    if spec is None:
        return f"the package reflexio, which is part of {DISTRIBUTION}, is missing: {_REINSTALL}"
    where = Path(spec.origin) if spec.origin else None  # none: a folder without an __init__.py
    if where is not None and (not where.is_file() or DISTRIBUTION.encode() in where.read_bytes()):
        return None  # ours, or in an archive
    found = where or next(iter(spec.submodule_search_locations or ()), "reflexio")
    from importlib import metadata

    others = {name for name in metadata.packages_distributions().get("reflexio", ()) if name != DISTRIBUTION}
    names = " ".join(sorted(others or {"reflexio", "reflexio-client"}))
    return (
        f"{found} is not from {DISTRIBUTION}, but from another distribution with the same import name ({names}): "
        f"they cannot be installed together. Run: pip uninstall -y {names} {DISTRIBUTION}, and then: "
        f"pip install '{DISTRIBUTION}[server]'"
    )


if __name__ == "__main__":
    main()
