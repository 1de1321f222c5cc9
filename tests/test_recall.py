"""`scripts/bench recall` on made-up data sets of a few sentences, in the formats of the real ones."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tools.benchmarks import locomo, xquad
from tools.benchmarks.__main__ import main

TREE = Path(__file__).parents[1]
Asked = tuple[str, str, str]  # id, question, answer
Paragraph = tuple[list[str], list[Asked]]
ENGLISH: list[Paragraph] = [
    (
        ["The ferry leaves at seven.", "Its captain was born in Bergen.", "On Sundays it stays in the harbour."],
        [
            ("a", "Where does the captain of the ferry come from?", "Bergen"),
            ("b", "When does the ferry leave?", "seven"),
        ],
    ),
    (
        ["Grandmother baked bread with caraway.", "The oven was older than the house."],
        [("c", "What did grandmother put into the bread?", "caraway. The")],
    ),
]
RUSSIAN: list[Paragraph] = [
    (
        ["Паром уходит в семь.", "Его капитан родился в Бергене.", "По воскресеньям он стоит в гавани."],
        [("a", "Откуда родом капитан?", "Бергене"), ("b", "Какой длины жираф?", "семь")],
    ),
    (["Бабушка пекла хлеб с тмином.", "Печь была старше дома."], [("c", "С чем бабушка пекла хлеб?", "тмином. Печь")]),
]
HELD = {"a": "0_1", "b": "0_0", "c": "1_0"}
"""The paragraph and the sentence in which the answer begins."""


def paragraph(sentences: list[str], asked: list[Asked]) -> dict[str, Any]:
    context = " ".join(sentences)
    starts = [len(" ".join([*sentences[:place], ""])) for place in range(len(sentences))]
    return {
        "context": context,
        "qas": [
            {"id": key, "question": question, "answers": [{"answer_start": context.index(answer), "text": answer}]}
            for key, question, answer in asked
        ],
        "sentence_breaks": [[start, start + len(sentence)] for start, sentence in zip(starts, sentences, strict=True)],
        "sentences": sentences,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made up"
    made.mkdir()
    for code, paragraphs in {"en": ENGLISH, "ru": RUSSIAN}.items():
        articles = [{"title": "Made up", "paragraphs": [paragraph(*parts)]} for parts in paragraphs]
        (made / f"{code}.json").write_text(json.dumps({"data": articles, "version": "1.1"}), encoding="utf-8")
    (made / "README.md").write_text("Not a language.")
    return made


def bench(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.benchmarks", "recall", *map(str, arguments), "--json"]
    said = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=150, check=True).stdout
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return figures


def refused(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, ["recall", *map(str, arguments)])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    return result.stderr.partition("Error: ")[2]


def test_the_evidence_is_the_sentence_in_which_the_answer_begins(folder: Path) -> None:
    assert xquad.languages(folder) == ["en", "ru"]
    for code, paragraphs in {"en": ENGLISH, "ru": RUSSIAN}.items():
        sentences, questions = xquad.load(folder, code, 10)
        assert [sentence.text for sentence in sentences] == [text for texts, _ in paragraphs for text in texts]
        assert len({sentence.request_id for sentence in sentences}) == 5
        text_of = {question: key for _, asked in paragraphs for key, question, _ in asked}
        found = {text_of[question.text]: question.evidence for question in questions}
        assert found == {key: {f"xquad_{code}_{place}"} for key, place in HELD.items()}
        assert {question.user_id for question in questions} == {code}


def test_all_languages_are_asked_the_same(folder: Path) -> None:
    def chosen(code: str, most: int) -> list[str]:
        questions = xquad.load(folder, code, most)[1]
        return [request_id.removeprefix(f"xquad_{code}_") for question in questions for request_id in question.evidence]

    assert chosen("en", 3) == chosen("en", 600) == list(HELD.values())
    for most in (1, 2, 3):
        assert len(set(chosen("en", most))) == most
        assert chosen("en", most) == chosen("ru", most)


def test_every_language_has_its_recall(folder: Path, model_dir: Path) -> None:
    assert bench("--xquad", folder) == {
        "questions": {"en": 3, "ru": 3},
        "r10": {"en": 1.0, "ru": 0.6667},  # nobody was told of giraffes
        "embedder": "minilm",
    }


def test_some_languages_and_questions_and_another_model(folder: Path, model_dir: Path) -> None:
    few = ("--language", "en", "--questions", "2", "--embedder", "minilm-fp32")
    assert bench("--xquad", folder, *few) == {"questions": {"en": 2}, "r10": {"en": 1.0}, "embedder": "minilm-fp32"}


def test_conversations_are_asked_by_the_same_way(tmp_path: Path, model_dir: Path) -> None:
    said = ["I sold my boat in spring.", "The harbour was closed.", "My sister plays the trombone."]
    turns = [{"speaker": "Ada", "dia_id": f"D1:{place}", "text": text} for place, text in enumerate(said, 1)]
    asked = [
        {"question": "What did Ada sell?", "category": category, "evidence": ["D1:1", "D9:9"]}
        for category in locomo.CATEGORIES
    ]
    asked += [{"question": "Who sings?", "category": 5, "evidence": ["D1:3"]}]
    conversation = {"speaker_a": "Ada", "session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": turns}
    path = tmp_path / "made up.json"
    path.write_text(json.dumps([{"sample_id": "one", "conversation": conversation, "qa": asked}]))
    figures = bench("--locomo", path)
    assert figures.pop("questions") == 4
    assert figures == dict.fromkeys(["r5", "r10", "r20", "mrr", "plain_chroma_r10", "lexical_r10", "dense_r10"], 1.0)


def test_what_is_wrong_is_said_in_plain_words(folder: Path, tmp_path: Path) -> None:
    source = "github.com/google-research-datasets/lareqa (CC BY-SA 4.0)"
    empty = tmp_path / "empty"
    empty.mkdir()
    for said in (refused("--xquad", empty), refused("--xquad", folder, "--language", "fr")):
        assert source in said
    assert "no fr.json" in refused("--xquad", folder, "--language", "fr")

    plain = paragraph(*ENGLISH[0])
    del plain["sentence_breaks"]
    for data in (plain, {**plain, "sentence_breaks": [], "sentences": []}, None):
        (empty / "en.json").write_text(json.dumps({"data": [{"paragraphs": [data]}]}))
        assert "is not a file of XQuAD-R" in refused("--xquad", empty)
    (empty / "en.json").write_text('{"data": []}')
    assert "has no questions" in refused("--xquad", empty)

    for both_or_none in ((), ("--xquad", folder, "--locomo", folder / "en.json")):
        assert "one of --locomo and --xquad" in refused(*both_or_none)
    for only_there in (("--language", "en"), ("--questions", "5")):
        assert "are for --xquad" in refused("--locomo", folder / "en.json", *only_there)
    assert "not one of 'minilm'" in refused("--xquad", folder, "--embedder", "maxilm")
