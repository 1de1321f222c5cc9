"""The LoCoMo conversations as requests and questions (Maharana et al., 2024). The file is read, never copied."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.benchmarks import asking

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}  # 5, adversarial, is left out


@dataclass(frozen=True)
class Turn:
    """What one speaker said at a time."""

    user_id: str
    key: tuple[int, int]
    """Its session, and its place there."""
    session: str
    speaker: str
    text: str
    time: datetime

    @property
    def request_id(self) -> str:
        """Names the turn, so that a hit can be told from its request."""
        return f"locomo_{self.user_id}_{self.key[0]}_{self.key[1]}"

    def request(self) -> pb.PublishInteractionsRequest:
        """The turn as a request of its own."""
        created_at = Timestamp()
        created_at.FromDatetime(self.time)
        item = noun.InteractionData(role=self.speaker, content=self.text, created_at=created_at)
        return pb.PublishInteractionsRequest(
            user_id=self.user_id,
            interactions=[item],
            request_group=self.session,
            source="locomo",
            request_id=self.request_id,
        )


@dataclass(frozen=True)
class Question(asking.Question):
    """A question about one user's conversations."""

    category: int


def load(path: Path) -> tuple[list[Turn], list[Question]]:
    """All turns in order, and the questions of categories 1 to 4 of whose evidence at least one turn is there."""
    turns: list[Turn] = []
    questions: list[Question] = []
    for sample in json.loads(path.read_text()):
        mine = list(_turns(sample))
        ids = {turn.key: turn.request_id for turn in mine}
        turns += mine
        for asked in sample["qa"]:
            named = re.findall(r"D(\d+):(\d+)", " ".join(asked.get("evidence", [])))
            keys = {(int(session), int(turn)) for session, turn in named}
            evidence = frozenset(ids[key] for key in keys & ids.keys())
            if asked["category"] in CATEGORIES and evidence:
                questions.append(Question(sample["sample_id"], asked["question"], evidence, asked["category"]))
    return turns, questions


def _turns(sample: dict[str, Any]) -> Iterator[Turn]:
    conversation = sample["conversation"]
    for name, said in conversation.items():
        if not re.fullmatch(r"session_\d+", name):
            continue
        time = datetime.strptime(conversation[f"{name}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        for turn in said:
            session, number = turn["dia_id"][1:].split(":")
            caption = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            text = f"{turn['speaker']}: {turn['text']}{caption}"
            yield Turn(sample["sample_id"], (int(session), int(number)), name, turn["speaker"], text, time)
