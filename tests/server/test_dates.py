"""Which dates and periods a query names: `reflexio_server.dates`, by language and form, and where it must find none."""

import calendar
import random
import time
from collections.abc import Callable
from datetime import date, timedelta

import pytest

from reflexio_server.dates import words as date_words
from reflexio_server.dates.named import MOST_NAMED, Named, named
from tests.wire import seeded

TODAY = date(2023, 5, 17)  # a Wednesday
YEARS = [2022, 2023]


def found(query: str, today: date = TODAY) -> list[str]:
    """What is named, in order of time: "2023-05-07", or "2023-05-01..2023-05-31"."""
    spans = sorted(named(query, today, YEARS), key=lambda one: (one.first, one.last))
    return [f"{one.first}" if one.first == one.last else f"{one.first}..{one.last}" for one in spans]


A_DAY = [
    "What did Caroline say on 7 May 2023?",
    "on May 7th, 2023",
    "on may 7 2023",
    "the 7th of May 2023",
    "7-May-2023",
    "2023 May 7",
    "am 7. Mai 2023",
    "den 7.Mai 2023",
    "am 07.05.2023",
    "am 7. 5. 2023 im Büro",
    "am 7.5.23",
    "le 7 mai 2023",
    "el 7 de mayo de 2023",
    "7 de Mayo del 2023",
    "il 7 maggio 2023",
    "em 7 de maio de 2023",
    "op 7 mei 2023",
    "7 maja 2023",
    "7 мая 2023 года",
    "7-го мая 2023 г.",
    "den 7 maj 2023",
    "7 Mayıs 2023'te",
    "2023-05-07",
    "log_2023-05-07.txt",
    "since 2023-05-07T10:30:00Z",
    "2023/5/7",
    "2023年5月7日",
    "2023 年 5 月 7 日に",
    "二〇二三年五月七日",
    "2023년 5월 7일",
    "７ May ２０２３",
    "on Sunday, 7 May 2023",
    "am Sonntag, den 7. Mai 2023",
    "7 MAY 2023",
]


@pytest.mark.parametrize("query", A_DAY)
def test_a_day_with_its_year(query: str) -> None:
    assert found(query) == ["2023-05-07"]


@pytest.mark.parametrize(
    "query",
    [
        "7 May",
        "on may 7",
        "May the 7th",
        "7th of May",
        "the 7 May meeting",
        "Was war am 7. Mai?",
        "was war am 7.5.?",
        "Treffen 07.05.",
        "Treffen Sonntag 7.5.",
        "le 7 mai",
        "7 de mayo",
        "7 maggio",
        "7 мая",
        "5月7日",
        "五月七日",
        "5월 7일",
    ],
)
def test_a_day_without_a_year_is_one_in_each_of_the_users(query: str) -> None:
    assert found(query) == ["2022-05-07", "2023-05-07"]
    assert named(query, TODAY, []) == []


@pytest.mark.parametrize(
    ("query", "spans"),
    [
        ("07/05/2023", ["2023-05-07", "2023-07-05"]),
        ("7/5/23", ["2023-05-07", "2023-07-05"]),
        ("07-05-2023", ["2023-05-07", "2023-07-05"]),
        ("13/05/2023", ["2023-05-13"]),
        ("05/13/2023", ["2023-05-13"]),
        ("5/5/2023", ["2023-05-05"]),
        ("1er mars 2023", ["2023-03-01"]),
        ("3 Mars 2023", ["2023-03-03"]),
        ("Sept. 5, 2023", ["2023-09-05"]),
        ("Jan 5", ["2022-01-05", "2023-01-05"]),
        ("5 set 2023", ["2023-09-05"]),
        ("5 de out", ["2022-10-05", "2023-10-05"]),
        ("5. Okt. 2023", ["2023-10-05"]),
        ("29 February", []),
        ("29 February 2024", ["2024-02-29"]),
        ("14 July 1789", ["1789-07-14"]),
        ("10:30 May 7", ["2022-05-07", "2023-05-07"]),
        ("7 May '23", ["2023-05-07"]),
        ("on 7 May and 9 June 2022", ["2022-05-07", "2022-06-09"]),
        ("5 marca", ["2022-03-05", "2023-03-05"]),
        ("5 Julio 2023", ["2023-07-05"]),
    ],
)
def test_days(query: str, spans: list[str]) -> None:
    assert found(query) == spans


@pytest.mark.parametrize(
    ("query", "spans"),
    [
        ("May 2023", ["2023-05-01..2023-05-31"]),
        ("in may, 2023", ["2023-05-01..2023-05-31"]),
        ("Mai 2023", ["2023-05-01..2023-05-31"]),
        ("mayo de 2023", ["2023-05-01..2023-05-31"]),
        ("w maju 2023", ["2023-05-01..2023-05-31"]),
        ("в мае 2023 года", ["2023-05-01..2023-05-31"]),
        ("2023-05", ["2023-05-01..2023-05-31"]),
        ("05/2023", ["2023-05-01..2023-05-31"]),
        ("2023年5月", ["2023-05-01..2023-05-31"]),
        ("2023년 5월", ["2023-05-01..2023-05-31"]),
        ("Feb 2023", ["2023-02-01..2023-02-28"]),
        ("mars 2023", ["2023-03-01..2023-03-31"]),
        ("in May 7 people came", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("What did she paint in may", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("What happened around May with her", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("im Mai", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("en mai", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("en mayo", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("i maj", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("in October", ["2022-10-01..2022-10-31", "2023-10-01..2023-10-31"]),
        ("octubre", ["2022-10-01..2022-10-31", "2023-10-01..2023-10-31"]),
        ("5月", ["2022-05-01..2022-05-31", "2023-05-01..2023-05-31"]),
        ("in May and June 2022", ["2022-05-01..2022-05-31", "2022-06-01..2022-06-30"]),
        ("the last week of April", ["2022-04-01..2022-04-30", "2023-04-01..2023-04-30"]),
        ("last May", ["2022-05-01..2022-05-31"]),
        ("last April", ["2023-04-01..2023-04-30"]),
        ("avril dernier", ["2023-04-01..2023-04-30"]),
        ("letzten Oktober", ["2022-10-01..2022-10-31"]),
        ("this April", ["2023-04-01..2023-04-30"]),
        ("in May last year", ["2022-05-01..2022-05-31"]),
        ("last year in May", ["2022-05-01..2022-05-31"]),
        ("l'anno scorso a maggio", ["2022-05-01..2022-05-31"]),
        ("letztes Jahr im Mai", ["2022-05-01..2022-05-31"]),
        ("в мае прошлого года", ["2022-05-01..2022-05-31"]),
        ("去年5月", ["2022-05-01..2022-05-31"]),
        ("去年5月3日", ["2022-05-03"]),
        ("May 7 of last year", ["2022-05-07"]),
        ("next May", []),
        ("mai prochain", []),
    ],
)
def test_months(query: str, spans: list[str]) -> None:
    assert found(query) == spans


@pytest.mark.parametrize(
    ("query", "spans"),
    [
        ("May 5-9", ["2022-05-05..2022-05-09", "2023-05-05..2023-05-09"]),
        ("3.–5. Mai 2023", ["2023-05-03..2023-05-05"]),
        ("del 3 al 5 de mayo de 2023", ["2023-05-03..2023-05-05"]),
        ("de 3 a 5 de maio de 2023", ["2023-05-03..2023-05-05"]),
        ("from May to July 2022", ["2022-05-01..2022-07-31"]),
        ("from November to February 2023", ["2022-11-01..2023-02-28"]),
        ("vom 3.5. bis 7.6.2022", ["2022-05-03..2022-06-07"]),
        ("from 28 December 2022 to 3 January 2023", ["2022-12-28..2023-01-03"]),
    ],
)
def test_from_one_day_or_month_to_another(query: str, spans: list[str]) -> None:
    assert found(query) == spans


@pytest.mark.parametrize(
    ("query", "spans"),
    [
        ("summer", ["2022-06-01..2022-08-31", "2023-06-01..2023-08-31"]),
        ("Sommer 2023", ["2023-06-01..2023-08-31"]),
        ("verano de 2023", ["2023-06-01..2023-08-31"]),
        ("летом 2023", ["2023-06-01..2023-08-31"]),
        ("2023年夏天", ["2023-06-01..2023-08-31"]),
        ("2023 여름", ["2022-06-01..2022-08-31", "2023-06-01..2023-08-31"]),
        ("winter 2022", ["2022-12-01..2023-02-28"]),
        ("winter 2023/24", ["2023-12-01..2024-02-29"]),
        ("winter", ["2021-12-01..2022-02-28", "2022-12-01..2023-02-28", "2023-12-01..2024-02-29"]),
        ("in the spring", ["2022-03-01..2022-05-31", "2023-03-01..2023-05-31"]),
        ("fall of 2022", ["2022-09-01..2022-11-30"]),
        ("last fall", ["2022-09-01..2022-11-30"]),
        ("été 2022", ["2022-06-01..2022-08-31"]),
        ("l'été dernier", ["2022-06-01..2022-08-31"]),
        ("l'estate scorsa", ["2022-06-01..2022-08-31"]),
        ("last winter", ["2022-12-01..2023-02-28"]),
        ("this winter", ["2022-12-01..2023-02-28"]),
        ("this summer", ["2023-06-01..2023-08-31"]),
        ("прошлым летом", ["2022-06-01..2022-08-31"]),
        ("去年夏天", ["2022-06-01..2022-08-31"]),
        ("next summer", []),
    ],
)
def test_seasons(query: str, spans: list[str]) -> None:
    assert found(query) == spans


YEAR_2022 = "2022-01-01..2022-12-31"


def test_a_year_by_itself_counts_if_nothing_else_is_named() -> None:
    assert found("what happened in 2022?") == found("2022年") == found("2022년") == found("2022年之前") == [YEAR_2022]
    assert found("2021 and 2022") == ["2021-01-01..2021-12-31", YEAR_2022]
    assert found("yesterday, not in 2022") == ["2023-05-16"]
    assert found("2022 and 2023-05-07") == ["2023-05-07"]
    assert found("in 1899, 2101 or 12022") == []


RELATIVE = {
    "2023-05-17": "today; heute; aujourd'hui; hoy; oggi; hoje; vandaag; dzisiaj; сегодня; idag; bugün; 今天; 今日;"
    " 오늘; tonight; this morning; ce matin; esta mañana; 今晚",
    "2023-05-16": "yesterday; last night; gestern; letzte Nacht; hier soir; qu'est-ce que j'ai dit hier; ayer; anoche;"
    " ieri; ontem; gisteren; wczoraj; вчера; igår; i går; dün; 昨天; 昨日; 어제; one day ago; vor einem Tag",
    "2023-05-15": "the day before yesterday; vorgestern; avant-hier; anteayer; l'altro ieri; anteontem; eergisteren;"
    " przedwczoraj; позавчера; i förrgår; 前天; 一昨日; 2 days ago; last Monday; on Monday; am Montag; lundi dernier;"
    " el lunes; lunedì scorso; na segunda-feira; afgelopen maandag; w poniedziałek; в понедельник; i måndags; 周一;"
    " 月曜日; 월요일",
    "2023-05-14": "three days ago; 3 days ago; vor drei Tagen; il y a trois jours; hace tres días; tre giorni fa;"
    " há três dias; drie dagen geleden; trzy dni temu; три дня назад; för tre dagar sedan; üç gün önce; 三天前; 3日前",
    "2023-05-10": "last Wednesday; on Wednesday",
    "2023-05-12": "上周五; 先週の金曜日; 지난주 금요일",
    "2023-05-08..2023-05-14": "last week; letzte Woche; la semaine dernière; la semana pasada; la settimana scorsa;"
    " a semana passada; vorige week; w zeszłym tygodniu; на прошлой неделе; förra veckan; geçen hafta; 上周; 上个星期;"
    " 先週; 지난주",
    "2023-05-15..2023-05-21": "this week; diese Woche; cette semaine; esta semana; questa settimana; deze week;"
    " 这周; 今週",
    "2023-05-13..2023-05-14": "last weekend; letztes Wochenende; le week-end dernier; 上周末",
    "2023-04-30..2023-05-06": "two weeks ago; a couple of weeks ago; vor zwei Wochen; il y a deux semaines; 两周前;"
    " 2週間前",
    "2023-04-01..2023-04-30": "last month; letzten Monat; le mois dernier; el mes pasado; il mese scorso; mês passado;"
    " vorige maand; в прошлом месяце; 上个月; 先月; 지난달",
    "2023-05-01..2023-05-31": "this month; diesen Monat; 这个月; 今月",
    "2023-03-02..2023-04-01": "2 months ago; vor 2 Monaten; il y a deux mois; 两个月前; 2ヶ月前",
    YEAR_2022: "last year; letztes Jahr; l'année dernière; el año pasado; l'anno scorso; no ano passado; vorig jaar;"
    " в прошлом году; förra året; 去年; 昨年; 작년; a year ago; vor einem Jahr; il y a un an; hace un año; un anno fa",
    "2023-01-01..2023-12-31": "this year; dieses Jahr; cette année; este año; quest'anno; dit jaar; в этом году; 今年",
    "2023-05-14..2023-05-17": "the last 3 days; in the past three days; in den letzten drei Tagen;"
    " los últimos tres días; ces trois derniers jours; negli ultimi tre giorni; за последние три дня; 过去三天",
    "2023-05-10..2023-05-17": "over the past week; in the last week; die letzten 7 Tage",
}


@pytest.mark.parametrize("span", RELATIVE)
def test_relative_to_today(span: str) -> None:
    for query in RELATIVE[span].split(";"):
        assert found(query.strip()) == [span], query


ORDINARY = [
    "May I march in set order",
    "I may go",
    "Please, May I march on?",
    "sat sun no mar second hand",
    "You may not, he may",
    "at least 5 may come",
    "this may work, as may this march",
    "a long march through the institutions",
    "march 20 miles",
    "set 5 alarms",
    "5 out of 10",
    "5 set matches",
    "3 Mars bars",
    "a mission to Mars",
    "mayo on the sandwich",
    "What did Julio say?",
    "Ho mai detto questo?",
    "die Marke von mei Pen",
    "prices of real estate",
    "j'ai été malade",
    "in diesem Fall",
    "Was habe ich hier gesagt?",
    "hier",
    "na segunda vez",
    "fix the spring, fall back",
    "how to deploy in Spring Boot",
    "a trip to Rio de Janeiro",
    "upgrade to Python 3.11.",
    "version 7.5.23 on 10.5.2023.1",
    "open 24/7, rated 8/10",
    "call 555-1234",
    "$2000 or 2000 people",
    "every Monday, on Mondays",
    "next week, next Monday, tomorrow",
    "the last week of",
    "24.12 percent, 50 % of 1920x1080",
    "31 February 2023",
    "30.02.2023",
    "2023-13-01",
    "7 May 0000",
    "7 May 99999",
    "May 7, 123456789012345678901234567890",
    "0000-00-00",
    "9999 years ago",
    "10000000 days ago",
    "下周一",
    "上上周",
    "option 3 - May I ask",
    "一周一次",
    "日本周边",
    "二零二三",
    "",
    " ",
]


@pytest.mark.parametrize("query", ORDINARY)
def test_ordinary_words_name_none(query: str) -> None:
    assert found(query) == []


# As each stands in a date.
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "sv": "januari februari mars april maj juni juli augusti september oktober november december",
    "tr": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
}
ORDINALS = ["th", "st", "nd", "rd"]
Form = Callable[[date], str]


def month_of(language: str, day: date) -> str:
    return MONTHS[language].split()[day.month - 1]


def ordinal(day: int) -> str:
    return f"{day}{ORDINALS[day % 10] if day % 10 < 4 and day // 10 != 1 else 'th'}"


DAY_FORMS: list[Form] = [
    lambda day: f"{day.day} {month_of('en', day)} {day.year:04}",
    lambda day: f"{month_of('en', day)} {day.day}, {day.year:04}",
    lambda day: f"{month_of('en', day)[:3]} {day.day} {day.year:04}",
    lambda day: f"the {ordinal(day.day)} of {month_of('en', day)}, {day.year:04}",
    lambda day: f"{month_of('en', day).lower()} {ordinal(day.day)} {day.year:04}",
    lambda day: f"{day.day}. {month_of('de', day)} {day.year:04}",
    lambda day: f"{day.day} {month_of('fr', day)} {day.year:04}",
    lambda day: f"{day.day} de {month_of('es', day)} de {day.year:04}",
    lambda day: f"{day.day} {month_of('it', day)} {day.year:04}",
    lambda day: f"{day.day} de {month_of('pt', day)} de {day.year:04}",
    lambda day: f"{day.day} {month_of('nl', day)} {day.year:04}",
    lambda day: f"{day.day} {month_of('pl', day)} {day.year:04}",
    lambda day: f"{day.day} {month_of('ru', day)} {day.year:04} года",
    lambda day: f"{day.day} {month_of('sv', day)} {day.year:04}",
    lambda day: f"{day.day} {month_of('tr', day)} {day.year:04}",
    lambda day: f"{day.day}.{day.month}.{day.year:04}",
    lambda day: f"{day.day:02}.{day.month:02}.{day.year:04}",
    lambda day: f"{day.day}/{day.month}/{day.year:04}",
    lambda day: f"{day.month:02}/{day.day:02}/{day.year:04}",
    lambda day: f"{day:%d-%m}-{day.year:04}",
    lambda day: day.isoformat(),
    lambda day: f"{day.year:04}/{day.month}/{day.day}",
    lambda day: f"{day.year:04}年{day.month}月{day.day}日",
    lambda day: f"{day.year:04}년 {day.month}월 {day.day}일",
]
YEARLESS_FORMS: list[Form] = [
    lambda day: f"{day.day} {month_of('en', day)}",
    lambda day: f"on {month_of('en', day).lower()} {day.day}",
    lambda day: f"{day.day}. {month_of('de', day)}",
    lambda day: f"{day.day} {month_of('fr', day)}",
    lambda day: f"{day.day} de {month_of('es', day)}",
    lambda day: f"{day.day} {month_of('ru', day)}",
    lambda day: f"am {day.day}.{day.month}.",
    lambda day: f"{day.month}月{day.day}日",
    lambda day: f"{day.month}월 {day.day}일",
]
MONTH_FORMS: list[Form] = [
    *((lambda day, language=language: f"{month_of(language, day)} {day.year}") for language in MONTHS),
    lambda day: f"{month_of('en', day)[:3]} {day.year}",
    lambda day: f"{day:%Y-%m}",
    lambda day: f"{day.month:02}/{day.year}",
    lambda day: f"{day.year}年{day.month}月",
]
FRAMES = ["{}", "what did she say on {} there?", "({})", "{}.", "Was war, {}, im Büro", "von {}", "\n{}\t!", "『{}』"]


def test_any_date_in_any_form_is_found_again() -> None:
    source = seeded()
    for _ in range(200):
        day = date.min + timedelta(days=source.randrange((date.max - date.min).days))
        recent = date(1900, 1, 1) + timedelta(days=source.randrange(200 * 365))
        month = Named(recent.replace(day=1), recent.replace(day=calendar.monthrange(recent.year, recent.month)[1]))
        frame = source.choice(FRAMES)
        for form in DAY_FORMS:
            query = frame.format(form(day))
            assert Named(day, day) in named(query, TODAY, YEARS), query
            assert len(named(query, TODAY, YEARS)) <= 2, query
        for form in YEARLESS_FORMS:
            query = frame.format(form(recent))
            assert Named(recent, recent) in named(query, TODAY, [2022, recent.year]), query
        for form in MONTH_FORMS:
            query = frame.format(form(recent))
            assert named(query, TODAY, YEARS) == [month], query


HOSTILE = [
    *("1 may ", "1 may, ", "1 may to ", "may and ", "may ", "in May ", "summer ", "last ", "last year ", "2023 ", "a1"),
    *("3 days ago ", "the last two weeks ", "il y a ", "vor drei ", "on monday ", "hier ", "rio de ", "spring "),
    *("1/2/3/4/", "1/2/2023 ", "7", "/", "1.1.", "am 7.5. ", "1. ", "1-2-3-4-", "$1,,", "2023-01-01 ", "1,111", "1:"),
    *(
        "年月日",
        "1月",
        "二〇二三年",
        "十",
        "三天前",
        "上周",
        "지난 ",
        "\ufdfa",
        "\u0301",
        "\ud800",
        "\0",
        "-",
        "_",
        "'",
        " ",
        "a",
        "\n1",
    ),
    *(
        "may" + " of" * 1300 + " ",
        "last year" + " in" * 1300 + " ",
        "7" + " - 7" * 1000,
        "1 may 2023 去年 2.2. 3/3/2020 ",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_what_is_made_to_take_long_is_over_soon(piece: str) -> None:
    query = (piece * 4096)[:4096]
    begun = time.perf_counter()
    spans = named(query, TODAY, range(1900, 2024))
    assert time.perf_counter() - begun < 1
    assert len(spans) <= MOST_NAMED
    assert len(set(spans)) == len(spans)


def test_no_text_no_day_and_no_years_raise() -> None:
    source = seeded()
    words = [*date_words.LETTERS, *"of the , . - / : 年 月 日 前 上 周 % $".split(), *A_DAY, *ORDINARY]
    words += [phrase for span in RELATIVE.values() for phrase in span.split(";")]
    days = [date.min, date.min + timedelta(days=6), date(4, 2, 29), TODAY, date(2024, 2, 29), date.max]
    for _ in range(1500):
        pieces = [source.choice(words) if source.random() < 0.6 else str(source.randrange(3000)) for _ in range(12)]
        query = source.choice(["", " "]).join(pieces)
        today, years = source.choice(days), source.choice([[], [2023], [-1, 0, 1, 9999, 10000, 10**30], range(1, 9999)])
        spans = named(query, today, years)
        assert len(spans) <= MOST_NAMED, query
        assert all(one.first <= one.last for one in spans), query


def test_the_newest_years_come_first_where_there_are_too_many() -> None:
    spans = named("in May", TODAY, random.sample(range(1900, 2024), 124))
    assert [one.first.year for one in spans] == list(range(2023, 2023 - MOST_NAMED, -1))
