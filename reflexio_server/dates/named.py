"""Which dates and periods a query names, in the words of a dozen languages and in figures. Pure functions.

A query is cut into tokens, and each gets a letter for what it can be: a day, a month, a year, "last". Dates are read
from that row of letters with one regular expression, so the order of words decides, not their language. What is
relative to today is found before, by whole phrases of one language (phrases.py).

The letters: d day, b day with an ordinal's ending, y year, z year of other centuries, x no year of the calendar's, D
whole date; m English month, M other month, w "may" and "march", e English abbreviation, f other abbreviation or
doubtful month, g more doubtful one; s season, v doubtful one; r relative day or period, k weekday, Y relative year;
those of words.ROLES; ",", "." and "-" as they are; ";" anything else.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice

from reflexio_server.dates import words as tables
from reflexio_server.dates.phrases import Named as Named
from reflexio_server.dates.phrases import (
    Phrase,
    Phrases,
    any_of,
    find_east,
    if_any,
    in_years,
    joined,
    of_month,
    of_season,
    of_year,
    this_year,
)

MOST_NAMED = 64
_MOST_CHARACTERS = 4096

_LANGUAGES = [Phrases(language) for language in tables.LANGUAGES]
_MONTHS, _SEASONS, _RELATIVE = "mMwefg", "sv", frozenset("rkYy")

# Of these words one is in whatever names a date without a figure.
_TELLING = {word for language in _LANGUAGES for word in language.telling}
_TELLING |= {word for word, (letter, _) in tables.LETTERS.items() if letter in "mMs" or word in tables.BEFORE}
_WORD = re.compile(r"[^\W\d_]+")
_NAMES = re.compile(rf"\b{any_of(tables.NAMES)}\b", re.IGNORECASE)
_EAST = re.compile("[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_FIGURE = re.compile("[0-9]")


_Piece = tuple[str, str]  # of a query: its kind, as _TOKEN calls it, and its text


@dataclass(slots=True)
class _Token:
    """A piece of a query, its letter, and what it stands for: a day, a month from 1, a season from 0, a year; dates."""

    text: str  # in small letters
    letter: str
    number: int = 0
    dates: Collection[Named] = ()


_NOTHING, _NO_PIECE = _Token("", ";"), ("", "")


def named(query: str, today: date, years: Sequence[int]) -> list[Named]:
    """The days and periods that a query names, each once; at most MOST_NAMED, and none if it names none.

    `today` is the day of the call where the caller is. A date without a year is one in each of `years`: those that the
    searched user has interactions of. A year by itself counts only if nothing else is named. Seasons are those of the
    northern half of the Earth.
    """
    text = query[:_MOST_CHARACTERS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)[:_MOST_CHARACTERS]
    is_east = not text.isascii() and _EAST.search(text)
    if not is_east and not _FIGURE.search(text) and _TELLING.isdisjoint(_WORD.findall(text.lower())):
        return []
    found: dict[Named, None] = {}
    for one in _every(text, today, sorted(set(years), reverse=True)[:MOST_NAMED], bool(is_east)):
        found[one] = None
        if len(found) == MOST_NAMED:
            break
    return list(found)


def _every(text: str, today: date, years: list[int], is_east: bool) -> Iterator[Named]:
    is_any = False
    if is_east:
        rest, end = [], 0
        for phrase in find_east(text, today, years):
            rest.append(text[end : phrase.start])
            end = phrase.end
            is_any = is_any or bool(phrase.dates)
            yield from phrase.dates
        text = ";".join([*rest, text[end:]])
    tokens = _with_phrases(_tokens(_NAMES.sub(";", text), years), today)
    letters = "".join(token.letter for token in tokens)
    matches = list(islice(_DATE.finditer(letters), MOST_NAMED))
    read = [_read(tokens[match.start() : match.end()], today, years) for match in matches]
    for place in range(len(matches) - 2, -1, -1):
        one, next_one = matches[place : place + 2]
        if not _RELATIVE.issuperset(one.group()) and not _RELATIVE.issuperset(next_one.group()):
            between = letters[one.end() : next_one.start()]
            read[place], read[place + 1] = joined(read[place], read[place + 1], between)
    bare = [match.group() == "y" for match in matches]
    sure = [one for dates, is_bare in zip(read, bare, strict=True) if not is_bare for one in dates]
    yield from sure
    if not is_any and not sure:
        yield from (one for dates in read for one in dates)


# From text to tokens

_END = r"(?![^\W_]|[-/.:][0-9])"
_TOKEN = re.compile(
    rf"""(?P<ymd>[0-9]{{4}}(?P<mark>[-/.])[0-9]{{1,2}}(?P=mark)[0-9]{{1,2}})(?:(?=T[0-9])|{_END})
    | (?P<ym>[0-9]{{4}}-[0-9]{{2}}){_END}
    | (?P<dmy>[0-9]{{1,2}}\.\ ?[0-9]{{1,2}}\.\ ?[0-9]{{4}}){_END}
    | (?P<either>[0-9]{{1,2}}(?:/[0-9]{{1,2}}/(?:[0-9]{{2}}){{1,2}}|-[0-9]{{1,2}}-[0-9]{{4}})){_END}
    | (?P<my>[0-9]{{1,2}}/[0-9]{{4}}){_END}
    | (?P<dm>[0-9]{{1,2}}\.\ ?[0-9]{{1,2}}\.(?:[0-9]{{2}})?){_END}
    | (?P<span>[0-9]{{4}})/(?:[0-9]{{2}}){{1,2}}{_END}
    | (?P<other>[$€£¥#]\ ?[0-9][0-9.,]*|[0-9]+(?:[.:/][0-9]+|,[0-9]{{3}}(?![0-9]))+)
    | (?P<ordinal>[0-9]{{1,2}})(?:st|nd|rd|th|er|re|e|o|a|de|ste|:[ea]|-?(?:го|е|ое))(?![^\W_])
    | (?P<number>[0-9]{{1,4}})(?![^\W_]|\ ?%)
    | ['’](?P<short>[0-9]{{2}})(?![^\W_])
    | (?P<word>[^\W\d_]+)(?![0-9])
    | (?P<mixed>[^\W_]+)
    | (?P<hyphen>[–—]|(?<![^\W_])-|-(?![^\W_])|(?<=[0-9])-(?=[0-9]))
    | (?P<point>[^\w\s'’–—-])""",
    re.VERBOSE | re.IGNORECASE,
)


def _tokens(text: str, years: list[int]) -> list[_Token]:
    pieces = [(match.lastgroup or "", match[match.lastgroup or 0]) for match in _TOKEN.finditer(text)]
    around = [_NO_PIECE, *pieces, _NO_PIECE]
    tokens: list[_Token] = []
    for (kind, piece), before, after in zip(pieces, around, around[2:], strict=False):
        if kind == "word":
            token = _word(piece, tokens, before, after)
        elif kind in ("hyphen", "point"):
            token = _Token(piece, "-" if kind == "hyphen" else piece if piece in ",." else ";")
        elif kind in ("number", "ordinal", "span", "short"):
            token = _number(kind, piece)
        else:
            token = _Token(piece.lower(), "x" if piece.isascii() and piece.isdecimal() else ";")
            if kind not in ("dm", "mixed", "other") or (kind == "dm" and _is_dotted(piece, before, after)):
                token.dates = _in_figures(kind, piece, years)
                token.letter = "D" if token.dates else ";"
        tokens.append(token)
    return tokens


def _number(kind: str, piece: str) -> _Token:
    number = int(piece)
    if kind == "short":
        return _Token(piece, "y", _of_two_figures(number))
    if len(piece) == 4:
        return _Token(piece, "y" if 1900 <= number <= 2100 else "z" if number else "x", number)
    if len(piece) <= 2 and 1 <= number <= 31:
        return _Token(piece, "b" if kind == "ordinal" else "d", number)
    return _Token(piece, ";")


def _of_two_figures(year: int) -> int:
    return year + (2000 if year < 70 else 1900)


def _is_dotted(piece: str, before: _Piece, after: _Piece) -> bool:
    """Whether "7.5." is a date, and no number that ends a sentence: by what it stands beside, or as "07.05."."""
    beside = before[1].lower() in tables.DOTTED_AFTER or "hyphen" in (before[0], after[0])
    return beside or bool(re.match(r"[0-3][0-9]\. ?0", piece))


def _in_figures(kind: str, piece: str, years: list[int]) -> list[Named]:
    readings: list[tuple[int, ...]] = []
    match kind, [int(part) for part in re.findall("[0-9]+", piece)]:
        case "ymd", [year, month, day]:
            readings = [(year, month, day)]
        case "dmy", [day, month, year]:
            readings = [(year, month, day)]
        case "either", [first, second, year]:
            year = year if re.search("[0-9]{4}", piece) else _of_two_figures(year)
            readings = [(year, second, first), (year, first, second)]
        case "dm", [day, month, year]:
            readings = [(_of_two_figures(year), month, day)]
        case "dm", [day, month]:
            readings = [(year, month, day) for year in years]
        case ("ym", [year, month]) | ("my", [month, year]) if 1900 <= year <= 2100:
            readings = [(year, month)]
    return [one for year, month, *days in readings for one in if_any(of_month, year, month, days)]


def _word(piece: str, tokens: list[_Token], before: _Piece, after: _Piece) -> _Token:
    word = piece.lower()
    letter, number = tables.LETTERS.get(word, (";", 0))
    if letter in _MONTHS:
        number += 1
    if piece != word and word in tables.ALSO_NAMES:
        return _Token(word, "g", number)
    if word in tables.BEFORE:
        one_before, last = [_NOTHING, _NOTHING, *tokens[-2:]][-2:]
        announcing = one_before if last.text == "the" and letter == "v" else last
        if announcing.text in tables.BEFORE[word]:
            letter = "m" if letter == "w" else "M" if letter in _MONTHS else "s"
        elif letter == "w":
            letter = _may(piece, one_before, last, before, after)
    return _Token(word, letter, number)


def _may(piece: str, one_before: _Token, last: _Token, before: _Piece, after: _Piece) -> str:
    """The letter of "may" and "march" where no word before says that a month is meant."""
    next_word = after[1].lower() if after[0] == "word" else ""
    if piece.istitle() and before[0] == "word" and before[1].islower():
        return "w" if next_word in tables.NO_MONTH_BEFORE else "m"
    # "At least 5 may come": a verb, unless what follows may well follow a date.
    is_verb = piece.islower() and last.letter in "db" and next_word and next_word not in tables.DATE_BEFORE
    return ";" if is_verb and one_before.text not in tables.BEFORE["may"] | {"on"} else "w"


# From phrases and tokens to dates

_DAYS = r"[db](?:\.?[-&]a?[db])?"  # "7.", "7.-9.", "7 and 9"
_DAYS_BEFORE = r"[db](?:\.?(?:[-&]a?|a)[db])?"  # before a month also "7 a 9"
_DATE = re.compile(
    rf"""(?:k,?[ao]?)?(?:D
      | {_DAYS_BEFORE}(?:\.?o*(?:[mM]|[ef]\.?)|o*w|\.?o+g\.?)(?:,?o*[yzx](?!c)|o*Y)?
      | {_DAYS}\.?g\.?,?o*[yzx]
      | (?:[mw]|e\.?)(?:{_DAYS}|o?b),?o*[yzx](?!c)
      | (?<!i)(?:[mw]|e\.?)(?:{_DAYS}|o?b)(?!c)(?:o*Y)?
      | y,?(?:[mwfe]\.?|M)[db])
    | Y,?[ioa]*(?:[mMwf]|[db]\.?o*[mMf]|[sv])
    | (?:[mMw]|[fe]\.?),?o*[yz](?!c) | [mM]o*Y | y,?[mM]
    | (?:[lLnN][mMwfs]|t[mMfs])(?:d|o?b)?(?:,?o*y)? | [mMfs][LN]
    | [sv]o*[yz] | so*Y | vo+Y | y,?[sv]
    | [mMsrkY] | y(?!c)""",
    re.VERBOSE,
)


def _with_phrases(tokens: list[_Token], today: date) -> list[_Token]:
    """The tokens, and instead of those of a phrase one for all of it."""
    words = [token.text for token in tokens]
    telling = set(words)
    languages = [language for language in _LANGUAGES if not telling.isdisjoint(language.telling)]
    if not languages:
        return tokens
    text = " ".join(words)
    found = [phrase for language in languages for phrase in language.find(text, today)]
    chosen, end = {}, 0
    for phrase in sorted(found, key=lambda phrase: (phrase.start, -phrase.end)):
        if phrase.start >= end:
            chosen[phrase.start], end = phrase, phrase.end
    rest, start, end = [], 0, 0
    for token in tokens:
        if start in chosen:
            rest.append(_of_phrase(chosen[start]))
            end = chosen[start].end
        elif start >= end:
            rest.append(token)
        start += len(token.text) + 1
    return rest


def _of_phrase(phrase: Phrase) -> _Token:
    if phrase.year is not None:
        return _Token("", "Y", phrase.year)
    return _Token("", "k" if phrase.is_weekday else "r", dates=phrase.dates)


def _read(tokens: list[_Token], today: date, years: Iterable[int]) -> list[Named]:
    """What a match of _DATE names. A weekday beside a date says nothing more."""
    letters = {token.letter: token for token in tokens}
    month = next((token.number for token in tokens if token.letter in _MONTHS), None)
    season = next((token.number for token in tokens if token.letter in _SEASONS), None)
    year = next((token.number for token in tokens if token.letter in "yzxY"), None)
    if month is None and season is None:
        if year is not None:
            return if_any(of_year, year)
        return next((list(letters[letter].dates) for letter in "Drk" if letter in letters), [])
    if not letters.keys().isdisjoint("nN"):
        return []
    is_last = not letters.keys().isdisjoint("lL")
    if year is not None:
        years = [year]
    elif is_last:
        years = range(today.year, today.year - 3, -1)
    elif "t" in letters:
        years = [this_year(season, today)]
    elif season is not None:
        years = in_years(season, years)
    days = [token.number for token in tokens if token.letter in "db"]
    if month is not None:
        dates = [one for year in years for one in if_any(of_month, year, month, days)]
    else:
        dates = [one for year in years for one in if_any(of_season, year, season)]
    return [one for one in dates if one.last < today][:1] if is_last and year is None else dates
