"""What a word is: the one function that cuts what is stored and what is asked into words.

Two texts that a reader takes for the same have the same words, however they were typed: composed or decomposed
(NFC, NFD), in full width, with ligatures, in capitals, with soft hyphens or other invisible characters.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby, pairwise

VERSION = 3
"""Rises with every change of what `cut` gives. Each stored row keeps the version that it was cut with, and what was
cut; rows of an older one are cut anew in the background. Version 1 was SQLite's own tokenizer, unicode61; version 2
left runs of all scripts whole."""

# Of scripts whose words Latin ones are no model for, parts of words are compared: of those that one character says
# much in, two at a time, as Lucene's CJKBigramFilter has it; of all others three, which find a stem in all its endings.
# On XQuAD-R that found more than whole words in Russian, Arabic, Hindi, Chinese and Thai, and less in English.
_BY_TWO = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL")
_WHOLE, _TWO, _THREE, _MARK = 0, 2, 3, -1

# Between letters of scripts that are written without spaces, U+200B parts words; anywhere else it is rubbish in one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
_PARTING = re.compile(f"(?<=[{_UNSPACED}])\u200b+(?=[{_UNSPACED}])")
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{1,2}")
_ASCII_WORD = re.compile("[a-z0-9]+")
_ASCII_PIECE = re.compile("[A-Za-z0-9]+|[^A-Za-z0-9]+")

# Not seen, though Unicode calls them letters or marks: a joiner, fillers, selectors of a variant. Also seen but no part
# of a word: the stroke that makes an Arabic word longer, skin colours of emoji.
_PASSED_OVER = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\u0640\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]"
)
# Marks that make another letter are kept, by their combining classes: vowels and viramas of India and South East Asia
# (0, 9, 84, 91, 103 to 132), nukta (7), the voicing of kana (8). All others are folded away: accents, the points of
# Hebrew and Arabic.
_KEPT_CLASSES = {0, 6, 7, 8, 9, 84, 91, *range(103, 133)}
_DRAWING = re.compile("[\u2500-\u259f\u2800-\u28ff]")  # of tables, bars, spinners: symbols, but no words
_MORE_EMOJI = "\u2194\u25b7\u25c1\u25fd\u25fe"
_APART = "\0"
_MOST_KEPT = 20_000  # characters, 2 MB: more are in no language, only in what is made to fill memory


class _Folded(dict[int, str]):
    """What each character gives, made when it is first met: parts of words, "" or blanks.

    A symbol that stands for letters or digits (™, ², ½) is put between _APART: it belongs to the word before it, and
    does not.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        # Twice, as what one gives may be more for the other.
        plain = character
        for _ in range(2):
            plain = unicodedata.normalize("NFKD", plain).casefold()
        given = "".join(map(_class_of, unicodedata.normalize("NFKD", plain)))
        if unicodedata.decomposition(character) and unicodedata.category(character) in ("So", "No"):
            given = f"{_APART}{given}{_APART}"
        if len(self) < _MOST_KEPT:
            self[code] = given
        return given


def _class_of(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" or _PASSED_OVER.match(character):
        return ""
    if category[0] == "M":
        kept = category != "Me" and unicodedata.combining(character) in _KEPT_CLASSES
        return character if kept else ""
    if character == "ı":  # its capital is I
        return "i"
    if category[0] in "LN" or category == "Co" or _FLAG.match(character):
        return character
    return f" {character} " if _is_symbol(character) else " "


def _is_symbol(character: str) -> bool:
    """Whether it is a word by itself: an emoji or another sign that stands for nothing but itself."""
    if character < "\x80" or unicodedata.decomposition(character) or _DRAWING.match(character):
        return False
    return unicodedata.category(character) == "So" or character in _MORE_EMOJI


class _Sizes(dict[str, int]):
    """Of how many characters the parts are that a character's script is compared by, found when it is first met."""

    def __missing__(self, character: str) -> int:
        category, name = unicodedata.category(character), unicodedata.name(character, "")
        size = _WHOLE
        if category[0] == "M":
            size = _MARK  # goes with the letter before it
        elif name.startswith(_BY_TWO):
            size = _TWO
        elif category[0] == "L" and not name.startswith(("LATIN", "MODIFIER")):
            size = _THREE
        if len(self) < _MOST_KEPT:
            self[character] = size
        return size


_FOLDED, _SIZES = _Folded(), _Sizes()


def cut(text: str) -> list[str]:
    """The words of a text in their order, each as it is compared: without capitals, accents and what is not seen.

    A word is a run of Latin letters and digits, or one emoji or other sign. An underscore parts words. A run of another
    script is cut into all its parts of two letters (Han, kana, Hangul) or three, each with its marks; a shorter one is
    one word.
    """
    return whole(text) if text.isascii() else [part for word in whole(text) for part in _parts(word)]


def whole(text: str) -> list[str]:
    """The same of any script before it is cut into parts: whatever stands between two blanks or other signs."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    if "\u200b" in text:
        text = _PARTING.sub(" ", text)
    folded = unicodedata.normalize("NFC", text.translate(_FOLDED))
    folded = _FLAG.sub(r" \g<0> ", folded)
    words = folded.replace(_APART, "").split()
    if _APART in folded:
        words += [word for word in folded.replace(_APART, " ").split() if word not in words]
    return words


def _parts(word: str) -> Iterator[str]:
    if word.isascii():
        yield word
        return
    for size, letters in _runs(word):
        if size == _WHOLE or len(letters) <= size:
            yield "".join(letters)
        else:
            yield from ("".join(letters[start : start + size]) for start in range(len(letters) - size + 1))


def _runs(word: str) -> Iterator[tuple[int, list[str]]]:
    """The runs of one script in a word, by the size of their parts: letters with their marks."""
    letters: list[str] = []
    current = _WHOLE
    for character in word:
        size = _SIZES[character]
        if size == _MARK and letters:
            letters[-1] += character
        elif letters and size == current:
            letters.append(character)
        else:
            if letters:
                yield current, letters
            letters, current = [character], max(size, _WHOLE)
    yield current, letters


def to_index(text: str) -> str:
    """The text as the full-text index takes it, which parts words at whatever is ASCII and no letter or digit.

    Where parts of two letters are compared, the last letter of a run is there by itself too: so every letter begins
    something, and one that is asked for alone is found, see `begins_others`.
    """
    if text.isascii():
        return text
    words = cut(text)
    last = [word[-1] for word, after in pairwise([*words, ""]) if _ends_run(word, after)]
    return " ".join(words + last)


def _ends_run(word: str, after: str) -> bool:
    return len(word) == _TWO and _SIZES[word[0]] == _SIZES[word[1]] == _TWO and word[1] != after[:1]


def begins_others(word: str) -> bool:
    """Whether a word is to be looked up by its beginning: a single letter of a script of which two are compared."""
    return len(word) == 1 and _SIZES[word] == _TWO


def is_spaced(word: str) -> bool:
    """Whether its script, by the first letter, parts words by blanks; Hangul does, but what follows a name joins it."""
    return _SIZES[word[0]] != _TWO and not _UNSPACED_LETTER.match(word)


def is_mostly_latin(text: str) -> bool:
    """Whether at least half of a text's letters are Latin ones; of a text without letters they are."""
    if text.isascii():
        return True
    letters = [character for character in unicodedata.normalize("NFKC", text) if character.isalpha()]
    return 2 * sum(_SIZES[letter] == _WHOLE for letter in letters) >= len(letters)


def pieces(text: str) -> Iterator[tuple[str, list[str]]]:
    """The text in pieces, each with its words: none between words, mostly one, several where no blank parts them."""
    if text.isascii():
        for piece in _ASCII_PIECE.findall(text):
            yield piece, cut(piece)
        return
    for _, characters in groupby(text, lambda character: _FOLDED[ord(character)].isspace()):
        piece = "".join(characters)
        yield piece, cut(piece)
