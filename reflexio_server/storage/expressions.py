"""What SQL dialects write in different words; each dialect's module says how it does."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Text, bindparam, column, or_, select
from sqlalchemy.sql.functions import FunctionElement


class Numbers(FunctionElement[Any]):
    """A table whose column `value` has the whole numbers of a JSON list."""

    name = "numbers"
    inherit_cache = True


class Texts(FunctionElement[Any]):
    """A table whose column `value` has the texts of a JSON list."""

    name = "texts"
    inherit_cache = True


class JsonRow(FunctionElement[Any]):
    """Its values as a JSON list."""

    name = "json_row"
    inherit_cache = True


class JsonList(FunctionElement[str]):
    """Of the rows of a query one text, a JSON list."""

    type = Text()
    name = "json_list"
    inherit_cache = True


class LastCharacter(FunctionElement[str]):
    """The last character of a text, but for those of another text."""

    type = Text()
    name = "last_character"
    inherit_cache = True


class LowerAscii(FunctionElement[str]):
    """A text with its ASCII letters in lower case."""

    type = Text()
    name = "lower_ascii"
    inherit_cache = True


class CasefoldOther(FunctionElement[str]):
    """What `str.casefold` gives of a text that has more than ASCII; NULL of any other."""

    type = Text()
    name = "casefold_other"
    inherit_cache = True


def numbers(name: str) -> Any:
    """A table whose column `value` has the elements of the JSON list that is given under this name."""
    return Numbers(bindparam(name, type_=Text())).table_valued(column("value", BigInteger()), name="k")


def among_numbers(name: str) -> Select[Any]:
    """A query for numbers that are given under this name, a JSON list of any length, to be looked for in."""
    return select(numbers(name).c.value)


def among_texts(name: str) -> Select[Any]:
    """The same for texts."""
    return select(Texts(bindparam(name, type_=Text())).table_valued(column("value", Text()), name="k").c.value)


def as_one_of(*columns: ColumnElement[Any]) -> Select[Any]:
    """A query for one JSON list, of a list of these columns for each row; without its FROM."""
    return select(JsonList(JsonRow(*columns)))


def as_one(query: Select[Any]) -> Select[Any]:
    """The rows of a query of one column as one JSON list, in their order where the query has a limit."""
    (only,) = query.subquery("found").c
    return select(JsonList(only))


def last_character(of: ColumnElement[str], after: str) -> ColumnElement[str]:
    """The last character of a text, but for those of `after`."""
    return LastCharacter(of, bindparam(None, after, type_=Text()))


def is_one_of(of: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Whether it is one of the texts given under this name, whatever its case: a JSON list, casefolded.

    Nearly every row is ASCII, which is soon folded.
    """
    return or_(LowerAscii(of).in_(among_texts(name)), CasefoldOther(of).in_(among_texts(name)))


def beside(than: str, way: str) -> str:
    """A query in text for the two texts that stand nearest before or after `i` in its thread, nearest first.

    They are looked for in its own request `r` and in the two before or after that.
    """
    return f"""SELECT n.id FROM interactions n WHERE n.request_ref IN (
                   SELECT r.id UNION ALL SELECT found.id FROM (
                       SELECT id FROM requests WHERE user_ref = r.user_ref AND request_group = r.request_group
                       AND (created_at, sequence) {than} (r.created_at, r.sequence)
                       ORDER BY created_at {way}, sequence {way} LIMIT 2) found)
               AND (n.created_at, n.id) {than} (i.created_at, i.id) AND (n.model IS NULL OR n.model > 0)
               ORDER BY n.created_at {way}, n.id {way} LIMIT 2"""
