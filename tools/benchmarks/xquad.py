"""The sentences of XQuAD-R as requests, and its questions (Roy et al., 2020). The files are read, never copied."""

import json
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.benchmarks.asking import Question

QUESTIONS = 600
SOURCE = "XQuAD-R is the folder xquad-r of github.com/google-research-datasets/lareqa (CC BY-SA 4.0)"


class Unusable(Exception):
    """The files are not there, or are others; the message says what is wanted and where it is from."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a paragraph, as a turn of its language's user."""

    language: str
    paragraph: int
    number: int
    text: str

    @property
    def request_id(self) -> str:
        """Names the sentence, so that a hit can be told from its request."""
        return f"xquad_{self.language}_{self.paragraph}_{self.number}"

    def request(self) -> pb.PublishInteractionsRequest:
        """The sentence as a request that stands alone.

        In a thread with the others of its paragraph it would be found by them too, whatever its language.
        """
        return pb.PublishInteractionsRequest(
            user_id=self.language,
            interactions=[noun.InteractionData(content=self.text)],
            source="xquad",
            request_id=self.request_id,
        )


def languages(folder: Path) -> list[str]:
    """The codes of the languages whose files are in the folder."""
    codes = sorted(path.stem for path in folder.glob("??.json"))
    if not codes:
        raise Unusable(f"{folder} has no files such as en.json. {SOURCE}.")
    return codes


def load(folder: Path, language: str, most: int) -> tuple[list[Sentence], list[Question]]:
    """All sentences of a language in order, and at most so many questions.

    A question's evidence is one sentence: that in which its answer begins. Few answers go on into the next. Where there
    are more questions, those chosen are spread evenly over the file; all languages have the same in the same order, and
    so each is asked the same.
    """
    path = folder / f"{language}.json"
    sentences: list[Sentence] = []
    questions: list[Question] = []
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        for place, paragraph in enumerate(paragraphs):
            mine = [Sentence(language, place, number, text) for number, text in enumerate(paragraph["sentences"])]
            sentences += mine
            starts = [start for start, _ in paragraph["sentence_breaks"]]
            for asked in paragraph["qas"]:
                holder = mine[bisect_right(starts, asked["answers"][0]["answer_start"]) - 1]
                questions.append(Question(language, asked["question"], frozenset({holder.request_id})))
    except FileNotFoundError:
        raise Unusable(f"{folder} has no {path.name}. {SOURCE}.") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Unusable(f"{path} is not a file of XQuAD-R, which has sentences and sentence_breaks. {SOURCE}.") from None
    if not questions:
        raise Unusable(f"{path} has no questions. {SOURCE}.")
    count = min(most, len(questions))
    return sentences, [questions[place * len(questions) // count] for place in range(count)]
