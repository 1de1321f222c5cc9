"""Dates that a text names by whole phrases: those relative to today, and all in Chinese, Japanese and Korean."""

import re
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from reflexio_server.dates import words as tables

_DAY, _WEEK, _MONTH, _YEAR, _WEEKEND = range(5)  # as Language.units has them
_AROUND = {_WEEK: 3, _MONTH: 15}  # days before and after: of what was some weeks ago, nobody means the very day
_WINTER = 3
_A_YEAR = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Named:
    """A day or a period that a query names: from its first to its last day, both in it."""

    first: date
    last: date


def if_any(make: Callable[..., Named], *arguments: Any) -> list[Named]:
    """What is made, or nothing where the calendar has no such date."""
    try:
        return [make(*arguments)]
    except (ValueError, OverflowError):
        return []


def of_year(year: int) -> Named:
    return Named(date(year, 1, 1), date(year, 12, 31))


def of_month(year: int, month: int, days: Sequence[int] = ()) -> Named:
    """The month, or of it the days from the earliest given to the latest."""
    days = days or (1, monthrange(year, month)[1])
    return Named(date(year, month, min(days)), date(year, month, max(days)))


def of_season(year: int, season: int) -> Named:
    """Three months, as meteorologists have it north of the equator; a winter is of the year in which it begins."""
    if season == _WINTER:
        return Named(date(year, 12, 1), of_month(year + 1, 2).last)
    return Named(date(year, 3 + 3 * season, 1), of_month(year, 5 + 3 * season).last)


def in_years(season: int, years: Iterable[int]) -> Iterable[int]:
    """The years whose season lies in one of these at least in part, newest first."""
    return sorted({*years, *(year - 1 for year in years if season == _WINTER)}, reverse=True)


def this_year(season: int | None, today: date) -> int:
    """The year of "this summer", "this winter"."""
    return today.year - (season == _WINTER and today.month <= 6)


def _back(today: date, count: int, unit: int) -> date:
    if unit not in (_MONTH, _YEAR):
        return today - timedelta(days=count if unit == _DAY else 7 * count)
    year, month = divmod(today.year * 12 + today.month - 1 - count * (1 if unit == _MONTH else 12), 12)
    return date(year, month + 1, min(today.day, monthrange(year, month + 1)[1]))


def _unit(today: date, count: int, unit: int) -> Named:
    """The day, week from Monday on, month, year or weekend that is so many before today's."""
    then = _back(today, count, unit)
    if unit == _DAY:
        return Named(then, then)
    if unit in (_MONTH, _YEAR):
        return of_month(then.year, then.month) if unit == _MONTH else of_year(then.year)
    monday = then - timedelta(days=then.weekday())
    return Named(monday + timedelta(days=5 if unit == _WEEKEND else 0), monday + timedelta(days=6))


def _ago(today: date, count: int, unit: int) -> Named:
    """What is meant by so many units ago: the day, a week or month around it, the calendar's year."""
    if unit not in _AROUND:
        return _unit(today, count, unit)
    then, around = _back(today, count, unit), timedelta(days=_AROUND[unit])
    return Named(then - around, then + around)


def _past(today: date, count: int, unit: int) -> Named:
    return Named(_back(today, count, unit), today)


def _latest(today: date, weekday: int) -> Named:
    return _unit(today, (today.weekday() - weekday - 1) % 7 + 1, _DAY)


def joined(first: list[Named], second: list[Named], between: str) -> tuple[list[Named], list[Named]]:
    """What two dates name that stand beside each other, with "-", "&" or "," between.

    "From May to June" is all from the one to the other; in "May and June 2023" both are of that year.
    """
    if between not in ("-", "&", ",", ",&"):
        return first, second
    pairs = []
    for later in second:
        if between == "-":
            near = [one for one in first if timedelta(0) <= later.first - one.first < _A_YEAR]
        else:
            near = [one for one in first if one.first.year == later.first.year]
        if near:
            pairs.append((max(near, key=lambda one: one.first), later))
    if not pairs or (between != "-" and len(first) == len(second)):
        return first, second
    paired = list(zip(*pairs, strict=True))
    if between != "-":
        return list(paired[0]), list(paired[1])
    spans = [Named(one.first, later.last) for one, later in pairs]
    if len(first) == len(second):
        spans += [one for one in (*first, *second) if one not in paired[0] + paired[1]]
    return [], spans


def any_of(words: Iterable[str]) -> str:
    """A regular expression of these words, the longest first."""
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"


@dataclass(frozen=True, slots=True)
class Phrase:
    """Where a phrase begins and ends in a text, whether it names a weekday, else a year or dates."""

    start: int
    end: int
    dates: list[Named]
    year: int | None = None
    is_weekday: bool = False


class Phrases:
    """The phrases of one language that are relative to today."""

    def __init__(self, language: tables.Language) -> None:
        self._days = language.days
        self._numbers = tables.numbered(language.numbers)
        self._units = tables.numbered(language.units)
        self._weekdays = tables.numbered(language.weekdays)
        singular = tables.numbered(" ".join(unit.split("+")[0] for unit in language.units.split()))
        shapes = {
            "N": any_of([*self._numbers, "[0-9]{1,4}"]),
            "U": any_of(self._units),
            "S": any_of(singular),
            "W": any_of(self._weekdays),
        }
        kinds = {"days": any_of(self._days)}
        for kind in ("ago", "past", "last", "this", "on"):
            kinds[kind] = re.sub("[NUSW]", lambda letter: shapes[letter.group()], getattr(language, kind))
        either = "|".join(f"(?P<{kind}>{shape})" for kind, shape in kinds.items())
        # "The last week of May" has nothing to do with today.
        self._phrase = re.compile(rf"(?<!\S)(?:{either})(?!\S)(?! (?:of|van|des|vom)(?!\S))")

        self.telling = {max(phrase.split(), key=len) for phrase in (*self._days, *self._units, *self._weekdays)}
        """Words of which one is in any of them."""

    def find(self, text: str, today: date) -> Iterator[Phrase]:
        """The phrases in a text in small letters, of words and signs that are parted by blanks."""
        for match in self._phrase.finditer(text):
            start, end = match.span()
            kind, words = match.lastgroup, f" {match.group()} "
            if kind == "days":
                if match.group() != tables.HIER or _is_french(text):
                    yield Phrase(start, end, if_any(_unit, today, -self._days[match.group()], _DAY))
                continue
            unit = next((unit for word, unit in self._units.items() if f" {word} " in words), _DAY)
            if kind == "on":
                weekday = next(day for word, day in self._weekdays.items() if f" {word} " in words)
                yield Phrase(start, end, if_any(_latest, today, weekday), is_weekday=True)
            elif kind in ("ago", "past"):
                counts = [int(digits) for digits in re.findall("[0-9]+", words)]
                counts += [place + 1 for word, place in self._numbers.items() if f" {word} " in words]
                make = _ago if kind == "ago" else _past
                yield Phrase(start, end, if_any(make, today, max(counts, default=1), unit))
            elif unit == _YEAR:
                yield Phrase(start, end, [], year=today.year - (kind == "last"))
            elif unit != _DAY:
                yield Phrase(start, end, if_any(_unit, today, int(kind == "last"), unit))


def _is_french(text: str) -> bool:
    words = set(text.split())
    return not words.isdisjoint(tables.FRENCH_WORDS) and words.isdisjoint(tables.NOT_FRENCH_WORDS)


_EAST_WEEKDAY = "(?:[一二三四五六日天](?![次回])|[月火水木金土日]曜|[월화수목금토일]요일)"
_EAST = re.compile(
    rf"(?P<past>{tables.EAST_PAST})?(?<![0-9])(?P<count>{tables.EAST_NUMBER}) ?(?P<unit>{any_of(tables.EAST_UNITS)})"
    rf"(?(past)|{tables.EAST_AGO})"
    rf"|(?:(?P<last>{tables.EAST_LAST})|(?P<this>{tables.EAST_THIS})|{tables.EAST_OTHER})"
    rf"(?:{tables.EAST_WEEK}(?:(?P<end>末)|[の ]?(?P<in_week>{_EAST_WEEKDAY}))?|(?P<in_month>{tables.EAST_MONTH}))"
    rf"|(?<![一两几每毎0-9])(?P<weekday>(?:{tables.EAST_WEEK}[一二三四五六日天](?![次回])|[月火水木金土日]曜|[월화수목금토일]요일))"
    rf"|(?P<days>{any_of(tables.EAST_DAYS)})"
    rf"|(?:(?:(?<![0-9])(?P<year>[0-9]{{4}}|[{tables.EAST_DIGITS}零]{{4}}) ?[年년]"
    rf"|(?P<now>{any_of(tables.EAST_YEARS)}))[の的 ]*)?(?:(?<![0-9])(?P<month>{tables.EAST_NUMBER}) ?[月월](?![間间])"
    rf" *(?:(?P<day>{tables.EAST_NUMBER}) ?[日號号일])?"
    rf"|(?P<season>{any_of(tables.EAST_SEASONS)})(?!節|节)(?P<whole>[天季])?)?"
)


def find_east(text: str, today: date, years: Iterable[int]) -> Iterator[Phrase]:
    """What a text names in Chinese, Japanese and Korean; a date without a year is one in each of `years`."""
    for match in _EAST.finditer(text):
        if match.group():
            start, end = match.span()
            yield Phrase(start, end, _read_east(match.groupdict(), today, years))


def _read_east(found: dict[str, str | None], today: date, years: Iterable[int]) -> list[Named]:
    if found["count"] and found["unit"]:
        unit = next(unit for unit, shape in enumerate(tables.EAST_UNITS) if re.fullmatch(shape, found["unit"]))
        count = _east_number(found["count"])
        if unit == _YEAR and count >= 1000:  # "before 2000", not 2000 years ago
            return if_any(of_year, count)
        return if_any(_past if found["past"] else _ago, today, count, unit)
    if found["days"]:
        return if_any(_unit, today, -tables.EAST_DAYS[found["days"]], _DAY)
    if found["weekday"]:
        return if_any(_latest, today, _east_weekday(found["weekday"]))
    if found["last"] or found["this"]:
        back = int(bool(found["last"]))
        if found["in_week"]:
            return if_any(_in_week, today, back, _east_weekday(found["in_week"]))
        return if_any(_unit, today, back, _MONTH if found["in_month"] else _WEEKEND if found["end"] else _WEEK)
    if found["year"] or found["now"]:
        years = [_east_number(found["year"]) if found["year"] else today.year + tables.EAST_YEARS[found["now"] or ""]]
    if found["month"]:
        days = [_east_number(found["day"])] if found["day"] else []
        return [one for year in years for one in if_any(of_month, year, _east_number(found["month"]), days)]
    if found["season"]:
        season = tables.EAST_SEASONS[found["season"]]
        if found["year"] or found["now"]:
            return [one for year in years for one in if_any(of_season, year, season)]
        # One letter alone is too often a part of a name.
        is_word = found["whole"] or len(found["season"]) > 1
        return [one for year in in_years(season, years) for one in if_any(of_season, year, season) if is_word]
    if found["year"] or found["now"]:
        return [one for year in years for one in if_any(of_year, year)]
    return []


def _in_week(today: date, back: int, weekday: int) -> Named:
    monday = _unit(today, back, _WEEK).first
    return _unit(monday, -weekday, _DAY)


def _east_weekday(text: str) -> int:
    return next(day for letter in text for day, same in enumerate(tables.EAST_WEEKDAYS) if letter in same)


def _east_number(text: str) -> int:
    if text.isascii():
        return int(text)
    tens, ten, ones = text.rpartition("十")
    figures = "".join("2" if letter in "两兩" else str(max(tables.EAST_DIGITS.find(letter), 0)) for letter in ones)
    if not ten:
        return int(figures)
    return 10 * (tables.EAST_DIGITS.index(tens) if tens else 1) + int(figures or 0)
