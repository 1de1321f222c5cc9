"""The demo: a server of its own, an account, a few publishes, a bulk upload, searches, a clean stop."""

import base64
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import reflexio
from tools.server_process import PASSWORD, ServerProcess, create_account

DATA = Path(__file__).parent / "demo_data" / "interactions.jsonl"
QUERIES = (
    ("maya.lindqvist", "dangerous food allergy"),
    ("jonas.weidmann", "why was the go-live postponed"),
    ("priya.raman", "race postponed"),
    ("diego.salcedo", "how much time to change trains with a big instrument"),
    ("noah.castellan", "abandoned the purchase at payment"),
    ("jonas.weidmann", "replica ran out of storage"),
    (None, "machine broke down and we need its serial number"),
)
console = Console()


def say(text: str) -> None:
    console.print(f"[bold]▸[/bold] {text}", highlight=False)


def requests() -> Iterator[dict[str, Any]]:
    """The bundled file as the client takes it."""
    for line in DATA.read_text().splitlines():
        request = json.loads(line)
        for item in request["interactions"]:
            item["created_at"] = datetime.fromisoformat(item["created_at"])
            if "user_action" in item:
                item["user_action"] = item["user_action"].removeprefix("USER_ACTION_")
        yield request


def picture() -> str:
    """A small PNG, a red and blue chequerboard, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = 32
    rows = b"".join(
        b"\0" + b"".join(b"\xd0\x30\x30" if (x // 8 + y // 8) % 2 else b"\x30\x40\xd0" for x in range(size))
        for y in range(size)
    )
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


def publish(client: reflexio.ReflexioClient) -> None:
    say("Publishing a conversation, without waiting for the server:")
    for said, answered in (
        ("My router loses the connection every evening.", "Does it happen on cable too, or on wifi only?"),
        ("Only on wifi, and only in the bedroom.", "Then let us move it to channel 11 and look again tonight."),
    ):
        receipt = client.publish_interaction(
            user_id="demo.visitor",
            interactions=[{"role": "User", "content": said}, {"role": "Agent", "content": answered}],
            request_group="router-help",
            source="support_chat",
        )
        console.print(f"    {receipt.request_id}")
    say("UI actions and a picture, waiting until they can be found:")
    response = client.publish_interaction(
        user_id="demo.visitor",
        interactions=[
            {
                "user_action": "click",
                "user_action_description": "opened the wifi diagnostics page",
                "interacted_image_url": "https://help.example.com/wifi/diagnostics",
            },
            {"content": "Here is what the status light looks like.", "image_encoding": picture()},
        ],
        request_group="router-help",
        source="web_app",
        wait_for_response=True,
    )
    console.print(f"    {response.message}")


def search(client: reflexio.ReflexioClient) -> None:
    table = Table(title="Found by meaning", show_lines=True)
    for column in ("user", "query", "best hit", "score"):
        table.add_column(column, overflow="fold", ratio=4 if column == "best hit" else None)
    for user_id, query in (("demo.visitor", "internet problems at night"), *QUERIES):
        found = client.search_interactions(user_id=user_id, query=query, top_k=1)
        hit = found.hits[0]
        text = hit.interaction.content or hit.interaction.user_action_description
        who = user_id or f"everyone → {hit.interaction.user_id}"
        table.add_row(who, query, f"{hit.interaction.role}: {text}", f"{hit.score:.2f}")
    console.print(table)


def show(url: str, email: str) -> None:
    """Publish, search and erase at the servers there, as their account with the password of such runs."""
    with reflexio.ReflexioClient(url_endpoint=url) as client:
        client.login(email, PASSWORD)
        say(f"Logged in as {email}.")
        publish(client)
        say("Streaming the bundled conversations:")
        result = client.publish_many(requests(), progress=True)
        console.print(
            f"    {result.requests.stored} requests with {result.interactions.stored} interactions stored, "
            f"{result.requests.rejected} rejected"
        )
        search(client)
        gone = client.delete_user("demo.visitor", wait_for_response=True)
        say(f"Erased demo.visitor for good: {gone.interactions} interactions, {gone.images} picture.")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="reflexio-demo-") as folder:
        say("Starting a server on a free port, with its data in a temporary folder.")
        email = create_account(Path(folder), "demo@example.com")
        server = ServerProcess(Path(folder))
        console.print(f"    {server.lines[-1].split('INFO ')[-1].strip()}", highlight=False)
        try:
            show(f"http://{server.address}/", email)
        finally:
            status = server.terminate()
    if status != 0:
        say(f"The server ended with status {status}:")
        console.print("".join(server.lines), highlight=False)
        return 1
    say("The server stopped cleanly; its folder is gone. To run it for real, see README.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
