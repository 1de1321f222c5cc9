"""How many requests a second each language's stubs stream to one server, in one run."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.server_process import PASSWORD, ServerProcess, create_account
from tools.toolchains import LANGUAGES, ROOT, ToolchainMissing

ROUNDS = 5
REQUESTS = 5000


def run() -> dict[str, Any]:
    """The median of five streams of each language, and of its ratios to Python in the same round.

    The order is another one in each round. A stream carries 5,000 requests with one short text each, and its time is
    from opening it to the verdict, measured in the program itself. A language without its toolchain here is named on
    stderr and left out.
    """
    names = list(filter(_built, LANGUAGES))
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        email = create_account(Path(folder))
        server = ServerProcess(Path(folder))
        try:
            for number in range(ROUNDS):
                for name in names[number:] + names[:number]:
                    rates[name].append(_stream(name, server.address, email, f"{name}-{number}"))
        finally:
            server.terminate()
    per_s = {name: round(statistics.median(found)) for name, found in rates.items()}
    ratios = {name: round(_ratio(rates[name], rates["python"]), 2) for name in names if name != "python"}
    return {"stream_per_s": per_s, "ratio_to_python": ratios}


def _ratio(rates: list[float], to: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(rates, to, strict=True))


def _built(name: str) -> bool:
    try:
        LANGUAGES[name].build()
    except ToolchainMissing as missing:
        print(f"left {name} out: {missing}", file=sys.stderr)
        return False
    return True


def _stream(name: str, address: str, email: str, prefix: str) -> float:
    environment = os.environ | {"REFLEXIO_EMAIL": email, "REFLEXIO_PASSWORD": PASSWORD}
    command = LANGUAGES[name].command("conformance", "stream", address, str(REQUESTS), prefix)
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    answer = json.loads(done.stdout)
    if answer["stored"] != REQUESTS:
        raise RuntimeError(f"{name}: stored {answer['stored']} of {REQUESTS} requests")
    return REQUESTS / float(answer["seconds"])
