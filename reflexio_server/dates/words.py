"""The words for months, seasons, days and spans of time, by language: the tables that `dates` reads queries with.

All in lower case. In a row of months, seasons, numbers, units or weekdays a blank parts one from the next, a slash what
stands for the same one, and an underscore is a blank. A word marked ? means other things too: it is a month or season
only beside a day or year, or after one of the language's `before`. One marked ! is still less sure: a month only in
"7 set 2023" and "7 de set", a season only after one of `before`. In rows of units a + parts singular from plural.
"""

from typing import NamedTuple


class Language(NamedTuple):
    """What one language has. In `ago`, `past`, `last`, `this` and `on` stand regular expressions of words parted by one
    blank, without punctuation, and in them N: a number, U: a unit, S: a unit in the singular, W: a weekday."""

    months: str
    seasons: str  # spring, summer, autumn, winter
    numbers: str  # one to twelve
    units: str  # day, week, month, year, and maybe the weekend
    weekdays: str  # Monday to Sunday
    days: dict[str, int]  # what names one day, by how many days it is from today
    ago: str  # N units before today
    past: str  # the N units that end today
    last: str  # the calendar's unit before this one
    this: str
    on: str  # the latest such weekday before today
    before: str = ""
    short: str = ""  # abbreviated months, which are some only beside a day or year


def _soft(stems: str) -> str:
    """Russian months in -ь, in all cases."""
    return " ".join("/".join(stem + ending for ending in ("ь", "я", "ю", "е", "ем", "ём")) for stem in stems.split())


ENGLISH = Language(
    months="january february march? april may? june july august september october november december",
    short="jan feb mar apr may jun jul aug sep/sept oct nov dec",
    seasons="spring? summer autumn/fall? winter",
    before="in of last since until till before after during from by early late mid",
    numbers="a/an/one two/couple three four five six seven eight nine ten eleven twelve",
    units="day+days week+weeks month+months year+years weekend",
    weekdays="monday tuesday wednesday thursday friday saturday sunday",
    days={"today": 0, "tonight": 0, "this morning": 0, "this afternoon": 0, "this evening": 0}
    | {"yesterday": -1, "last night": -1, "day before yesterday": -2},
    ago="(?:N|a couple of) U ago",
    past="(?:last|past) N U|(?:the|this) (?:last|past) (?:day|week|month|year)|past (?:week|month|year)",
    last="last S",
    this="this S",
    on="(?:on|last|this|this past) W",
)

GERMAN = Language(
    months="januar/jänner februar märz/maerz april mai? juni juli august september oktober november dezember",
    short="jan/jän feb mär/mrz apr mai jun jul aug sep/sept okt nov dez",
    seasons="frühling/frühjahr sommer herbst winter",
    before="im seit bis ab ende anfang mitte diesen letzten vergangenen",
    numbers="ein/eine/einem/einer/einen zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    units="tag/tages+tage/tagen woche+wochen monat/monats+monate/monaten jahr/jahres/jahre+jahren wochenende",
    weekdays="montag dienstag mittwoch donnerstag freitag samstag/sonnabend sonntag",
    days={"heute": 0, "gestern": -1, "letzte nacht": -1, "vorgestern": -2},
    ago="vor N U",
    past="(?:letzten?|vergangenen?) N U",
    last="(?:letzte|vergangene|vorige)[nrsm]? S",
    this="diese[nrsm]? S",
    on="(?:am|letzten|vergangenen|vorigen|diesen) W",
)

FRENCH = Language(
    months="janvier février/fevrier mars? avril mai? juin juillet août/aout"
    " septembre octobre novembre décembre/decembre",
    short="janv fév/févr mars avr mai juin juil août sept oct nov déc",
    seasons="printemps été? automne hiver",
    before="en de depuis fin début debut mi dès avant après jusqu l cet",
    numbers="un/une deux trois quatre cinq six sept huit neuf dix onze douze",
    units="jour+jours semaine+semaines mois an/année/annee+ans/années weekend/week_end",
    weekdays="lundi mardi mercredi jeudi vendredi samedi dimanche",
    days={"aujourd hui": 0, "ce matin": 0, "ce soir": 0, "cet après midi": 0}
    | {"hier": -1, "hier soir": -1, "hier matin": -1, "la nuit dernière": -1, "avant hier": -2},
    ago="il y a N U",
    past="N derni(?:er|èr|ere)e?s U",
    last="S (?:derni(?:er|ère|ere)|passée?)",
    this="(?:ce|cet|cette) S",
    on="W (?:dernier|passé)|ce W",
)

SPANISH = Language(
    months="enero febrero marzo abril mayo? junio julio? agosto septiembre/setiembre octubre noviembre diciembre",
    short="ene feb mar abr may jun jul ago! sep/sept oct nov dic",
    seasons="primavera verano otoño invierno",
    before="en de desde hasta entre este pasado",
    numbers="un/uno/una dos tres cuatro cinco seis siete ocho nueve diez once doce",
    units="día/dia+días/dias semana+semanas mes+meses año+años",
    weekdays="lunes martes miércoles/miercoles jueves viernes sábado/sabado domingo",
    days={"hoy": 0, "esta mañana": 0, "esta tarde": 0, "esta noche": 0}
    | {"ayer": -1, "anoche": -1, "anteayer": -2, "antier": -2, "antes de ayer": -2},
    ago="hace N U|N U atrás",
    past="[úu]ltim[oa]s N U|[úu]ltim[oa] S",
    last="S pasad[oa]|pasad[oa] S",
    this="est[ea] S",
    on="el W(?: pasado)?|el pasado W",
)

ITALIAN = Language(
    months="gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    short="gen! feb mar apr mag! giu lug ago! set! ott nov dic",
    seasons="primavera estate! autunno inverno",
    before="l d nell dell quest questa scorsa",
    numbers="un/uno/una due tre quattro cinque sei sette otto nove dieci undici dodici",
    units="giorno+giorni settimana+settimane mese+mesi anno+anni weekend",
    weekdays="lunedì/lunedi martedì/martedi mercoledì/mercoledi giovedì/giovedi venerdì/venerdi sabato domenica",
    days={"oggi": 0, "stamattina": 0, "stasera": 0, "ieri": -1, "ieri sera": -1}
    | {"altro ieri": -2, "altroieri": -2, "avantieri": -2, "ieri l altro": -2},
    ago="N U fa",
    past="ultim[ie] N U|ultim[oa] S",
    last="S (?:scors|passat)[oa]|scors[oa] S",
    this="quest[oa]? S",
    on="W scors[oa]|scors[oa] W|quest[oa] W",
)

PORTUGUESE = Language(
    months="janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    short="jan fev mar abr mai jun jul ago! set! out! nov dez",
    seasons="primavera verão outono inverno",
    numbers="um/uma dois/duas três/tres quatro cinco seis sete oito nove dez onze doze",
    units="dia+dias semana+semanas mês/mes+meses ano+anos",
    # "Segunda" alone is also the second, so with most of them stands what makes them days.
    weekdays="segunda_feira terça_feira quarta_feira quinta_feira sexta_feira sábado/sabado domingo",
    days={"hoje": 0, "esta manhã": 0, "esta noite": 0, "ontem": -1, "anteontem": -2},
    ago="(?:há|ha|faz) N U|N U atrás",
    past="[úu]ltim[oa]s N U|[úu]ltim[oa] S",
    last="S passad[oa]|passad[oa] S",
    this="n?(?:est|ess)[ea] S",
    on="n[ao] W(?: passad[oa])?|W passad[oa]|[úu]ltim[oa] W",
)

DUTCH = Language(
    months="januari februari maart april mei? juni juli augustus september oktober november december",
    short="jan feb mrt apr mei jun jul aug sep/sept okt nov dec",
    seasons="lente?/voorjaar zomer herfst/najaar winter",
    before="in sinds tot vanaf eind begin half vorige afgelopen deze",
    numbers="een/één twee drie vier vijf zes zeven acht negen tien elf twaalf",
    units="dag+dagen week+weken maand+maanden jaar+jaren weekend",
    weekdays="maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    days={"vandaag": 0, "vanmorgen": 0, "vanochtend": 0, "vanmiddag": 0, "vanavond": 0}
    | {"gisteren": -1, "gisteravond": -1, "vannacht": -1, "eergisteren": -2},
    ago="N U geleden",
    past="(?:afgelopen|laatste) N U",
    last="(?:vorige?|afgelopen|verleden) S",
    this="(?:deze|dit) S",
    on="(?:op|afgelopen|vorige|deze) W",
)

POLISH = Language(
    months="styczeń/stycznia/styczniu luty/lutego/lutym marzec/marca?/marcu? kwiecień/kwietnia/kwietniu maj?/maja?/maju"
    " czerwiec/czerwca/czerwcu lipiec/lipca/lipcu sierpień/sierpnia/sierpniu wrzesień/września/wrześniu"
    " październik/października/październiku listopad/listopada/listopadzie grudzień/grudnia/grudniu",
    seasons="wiosna/wiosny/wiosnę/wiosną/wiośnie lato?/latem jesień/jesieni/jesienią zima/zimy/zimę/zimą/zimie",
    before="w od do koniec początek",
    numbers="jeden/jedną dwa/dwie trzy cztery pięć sześć siedem osiem dziewięć dziesięć jedenaście dwanaście",
    units="dzień+dni tydzień/tygodnia/tygodniu+tygodnie/tygodni miesiąc/miesiąca/miesiącu+miesiące/miesięcy"
    " rok/roku+lata/lat weekend",
    weekdays="poniedziałek wtorek środę czwartek piątek sobotę niedzielę",
    days={"dziś": 0, "dzisiaj": 0, "dziś rano": 0, "wczoraj": -1, "przedwczoraj": -2},
    ago="(?:N U|S) temu",
    past="ostatni(?:e|ch) N U",
    last="(?:zeszł|ubiegł)(?:y|ego|ym) S",
    this="(?:ten|tego|tym) S",
    on="(?:we?|zeszłą|zeszły|ostatnią|ostatni) W",
)

RUSSIAN = Language(
    months=f"{_soft('январ феврал')} март/марта?/марту/мартом/марте? {_soft('апрел')} май/мая?/маю/маем/мае"
    f" {_soft('июн июл')} август/августа/августу/августом/августе {_soft('сентябр октябр ноябр декабр')}",
    short="янв фев мар апр май июн июл авг сен/сент окт ноя/нояб дек",
    seasons="весна/весны/весну/весной/весне лето/летом осень/осени/осенью зима/зимы/зиму/зимой/зиме",
    before="в с до от после конце конца начале начала середине прошлого",
    numbers="один/одну два/две три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
    units="день/дня+дней неделя/неделю/неделе/недели+недель месяц/месяца/месяце+месяцев год/года/году+лет выходные",
    weekdays="понедельник вторник среду четверг пятницу субботу воскресенье",
    days={"сегодня": 0, "вчера": -1, "прошлой ночью": -1, "позавчера": -2},
    ago="(?:N U|S) (?:тому )?назад",
    past="последни[ех] N U|последн(?:ий|юю) S",
    last="прошл(?:ая|ой|ую|ый|ого|ом|ые) S",
    this="эт(?:а|ой|у|от|ого|ом|и) S",
    on="во? (?:прошл(?:ый|ую|ое) |эт(?:от|у|о) )?W",
)

SWEDISH = Language(
    months="januari februari mars? april maj? juni juli augusti september oktober november december",
    short="jan feb mars apr maj juni juli aug sep/sept okt nov dec",
    seasons="våren/vår? sommaren/sommar hösten/höst vintern/vinter",
    before="i sedan från slutet början förra",
    numbers="en/ett två tre fyra fem sex sju åtta nio tio elva tolv",
    units="dag/dagen+dagar vecka/veckan+veckor månad/månaden+månader år/året",
    weekdays="måndags/måndagen tisdags/tisdagen onsdags/onsdagen torsdags/torsdagen fredags/fredagen lördags/lördagen"
    " söndags/söndagen",
    days={"idag": 0, "i dag": 0, "igår": -1, "i går": -1, "i förrgår": -2, "förrgår": -2},
    ago="för N U sedan",
    past="senaste N U",
    last="förra S",
    this="(?:den här|det här|i) S",
    on="(?:i|förra) W",
)

TURKISH = Language(
    months="ocak? şubat mart? nisan mayıs/mayis haziran temmuz ağustos eylül ekim? kasım? aralık?",
    seasons="ilkbahar yazın sonbahar kışın",
    before="geçen bu",
    numbers="bir iki üç dört beş altı yedi sekiz dokuz on on_bir on_iki",
    units="gün hafta ay yıl",
    weekdays="pazartesi salı çarşamba perşembe cuma cumartesi pazar",
    days={"bugün": 0, "dün": -1, "evvelsi gün": -2},
    ago="N U önce",
    past="son N U",
    last="geçen S",
    this="bu S",
    on="geçen W",
)

LANGUAGES = (ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, PORTUGUESE, DUTCH, POLISH, RUSSIAN, SWEDISH, TURKISH)

# What a word does beside a month, a season or a year, by the letter that dates.py has for it.
ROLES = {
    "l": "last letzten letzter letztem letztes vergangenen vorigen vorige afgelopen förra zeszły zeszłego zeszłym"
    " zeszłej прошлый прошлого прошлом прошлым прошлой прошлую прошлое geçen",
    "L": "dernier dernière derniere passé passée pasado pasada scorso scorsa passado passada",  # also after it
    "t": "this diese diesen dieser diesem cet cette este esta neste nesta questo questa quest deze dit tego tym tej"
    " этот этого этом этим эта этой эту это",
    "n": "next nächsten nächster nächstem kommenden volgende komende następny następnym nästa будущего следующего"
    " следующем следующим следующей gelecek",
    "N": "prochain prochaine próximo próxima proximo proxima prossimo prossima",
    "o": "of the de del do di van d den",
    "a": "on am le el op a",
    "i": "in im i en em nel nell w во в",
    "-": "to bis al au à tot по",
    "&": "and und y e et och и",
    # What is counted after a number, which then is no day or year.
    "c": "people persons users men women kids miles mile km kilometers steps hours minutes times days weeks months"
    " years dollars euros usd eur percent pages words files items rows lines tokens leute personen personnes personas",
}

# Months when in small letters; with a capital they are the planet or people, unless a day and a year stand there.
ALSO_NAMES = {"mars", "mei", "maja", "julio", "augustus"}

# What sounds like a month or a season, and is none.
NAMES = (
    "rio de janeiro",
    "plaza de mayo",
    "march madness",
    "winter olympics",
    "summer olympics",
    *(f"spring {word}" for word in "ai batch bean beans boot cloud data framework mvc rolls security".split()),
)

# English: before these "May" and "March" in the middle of a sentence are no months, for all their capital.
NO_MONTH_BEFORE = set(
    "i we you he she they it one not be have also or no never madness on for against of to through".split()
)
# What may stand after a date; after "5 may" any other word shows that may is a verb.
DATE_BEFORE = set(
    "in at on and or with when what who where which did do does was were for about from to until the my our".split()
)

# German and Dutch for "here", French for "yesterday": that only beside words of the first and none of the second.
HIER = "hier"
FRENCH_WORDS = set(
    "j je tu il elle nous vous on c ce que qu quoi le la les est et ai as avons avec pour dans mon ma".split()
)
NOT_FRENCH_WORDS = set(
    "ich wir ihr sie er es der die das den dem ist sind war und nicht ein eine was wer wo wie hat haben mit von"
    " ik jij wij het een is zijn niet wat wie waar heb hebben met van".split()
)

# What "7.5." follows where it is a date, besides weekdays and a hyphen.
DOTTED_AFTER = {*"am ab bis beim dem den der nach seit und vom von vor zum".split()}
DOTTED_AFTER |= {*GERMAN.weekdays.replace("/", " ").split()}

# Chinese, Japanese and Korean: tables, and regular expressions.
EAST_DIGITS = "〇一二三四五六七八九"
EAST_NUMBER = f"(?:[{EAST_DIGITS[1:]}]?十[{EAST_DIGITS[1:]}]?|[{EAST_DIGITS}零两兩]{{1,4}}|[0-9]{{1,4}})"
EAST_YEARS = {"一昨年": -2, "前年": -2, "去年": -1, "昨年": -1, "今年": 0, "明年": 1, "来年": 1, "來年": 1}
EAST_YEARS |= {"재작년": -2, "작년": -1, "지난해": -1, "올해": 0, "내년": 1}
EAST_SEASONS = {"春": 0, "夏": 1, "秋": 2, "冬": 3, "봄": 0, "여름": 1, "가을": 2, "겨울": 3}
EAST_DAYS = {"大前天": -3, "前天": -2, "一昨日": -2, "おととい": -2, "그저께": -2, "昨天": -1, "昨日": -1, "昨晚": -1}
EAST_DAYS |= {"昨夜": -1, "きのう": -1, "어제": -1, "今天": 0, "今日": 0, "今早": 0, "今朝": 0, "今晚": 0, "今夜": 0}
EAST_DAYS |= {"오늘": 0}
EAST_UNITS = (  # as they are counted: day, week, month, year
    "[天日일]",
    "(?:[个個]?(?:星期|礼拜|禮拜)|[周週주])[间間일]?",
    "(?:[个個ヶケかカ箇]月|개월|달)[間间]?",
    "[年년][間间]?",
)
EAST_WEEK = "(?:周(?![期边邊围圍到])|週|星期|礼拜|禮拜|주)"
EAST_MONTH = "(?:月(?![曜亮球光])|달)"
EAST_WEEKDAYS = ("一月월", "二火화", "三水수", "四木목", "五金금", "六土토", "日天일")  # Monday to Sunday
EAST_AGO = "(?: ?之?前| ?전)"
EAST_PAST = "(?:过去|過去|最近|直近|ここ|지난|최근)の? ?"
EAST_LAST = "(?:上一?[个個]?|先|지난 ?)"
EAST_THIS = "(?:[这這]一?[个個]?|(?<!日)本|今|이번 ?)"
EAST_OTHER = "(?:下一?[个個]?|上上[个個]?|来|來|[每毎]一?[个個]?|다음 ?|매 ?)"  # next, every, the one before the last


def numbered(row: str) -> dict[str, int]:
    """The words of a row, each with the place of its group, from 0."""
    groups = enumerate(row.replace("+", "/").split())
    return {word.replace("_", " "): place for place, group in groups for word in group.split("/")}


LETTERS: dict[str, tuple[str, int]] = {}
"""Each month, season and role by word: its letter, and the month's number or season's place."""

BEFORE: dict[str, set[str]] = {}
"""After which words a doubtful month or season is meant."""


def _learn(row: str, before: str, sure: str, doubtful: str, least_sure: str) -> None:
    for marked, place in numbered(row).items():
        word = marked.rstrip("?!")
        letter = {"?": doubtful, "!": least_sure}.get(marked[-1], sure)
        LETTERS.setdefault(word, (letter, place))
        if word != marked and before:
            BEFORE.setdefault(word, set()).update(before.split())


for _one in LANGUAGES:  # the English readings before all others
    _learn(_one.months, _one.before, *("mwg" if _one is ENGLISH else "Mfg"))
    _learn(_one.short, "", *("eeg" if _one is ENGLISH else "ffg"))
    # "This may" and "this march" are no months, "in diesem Fall" is no season.
    _learn(_one.seasons, f"{_one.before} this next" if _one is ENGLISH else _one.before, *"sv;")
for _letter, _row in ROLES.items():
    for _word in _row.split():
        LETTERS.setdefault(_word, (_letter, 0))
