"""Screenshots drawn as programs show them, and the text that stands in each."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

FONTS = Path("/usr/share/fonts/truetype")
SANS, MONO = FONTS / "dejavu/DejaVuSans.ttf", FONTS / "dejavu/DejaVuSansMono.ttf"
CHINESE = FONTS / "wqy/wqy-microhei.ttc"
PACKAGES = {SANS: "fonts-dejavu-core", MONO: "fonts-dejavu-core", CHINESE: "fonts-wqy-microhei"}

Colour = str


@dataclass
class Screen:
    """A picture that is drawn on, and all the text that was; sizes and places are of a screen of `scale` 1."""

    width: int = 1280
    height: int = 720
    ground: Colour = "white"
    ink: Colour = "#1a1a1a"
    scale: float = 1
    font: Path | None = None
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (round(self.width * self.scale), round(self.height * self.scale)), self.ground)
        self._draw = ImageDraw.Draw(self.image)

    def say(self, x: float, y: float, text: str, size: float = 16, ink: Colour | None = None) -> None:
        """Draw one line of text whose upper left corner is here."""
        at = (x * self.scale, y * self.scale)
        self._draw.text(at, text, font=_font(self.font, size * self.scale), fill=ink or self.ink)
        self.lines.append(text)

    def box(self, x: float, y: float, width: float, height: float, fill: Colour, edge: Colour | None = None) -> None:
        corners = [one * self.scale for one in (x, y, x + width, y + height)]
        self._draw.rounded_rectangle(corners, 4 * self.scale, fill, edge)

    def png(self) -> bytes:
        return saved(self.image, "PNG")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@cache
def _font(path: Path | None, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if path is None:
        return ImageFont.load_default(size)  # Pillow's own, which has ASCII alone
    if not path.exists():
        lacking = f"there is no {path.name}: apt-get install {PACKAGES[path]}"
        if "REFLEXIO_TEST_ALL" in os.environ:
            pytest.fail(lacking)
        pytest.skip(lacking)
    return ImageFont.truetype(path, size)


def form_errors() -> Screen:
    screen = Screen(900, 620, "#f5f6f8")
    screen.say(60, 40, "Create your account", 28)
    for row, (label, value, wrong) in enumerate(
        [
            ("Full name", "Margaret Hamilton", ""),
            ("Email address", "margaret.hamilton@example", "Please enter a valid email address"),
            ("Password", "********", "Password must contain at least 12 characters"),
            ("Postal code", "9021", "Postal code must have five digits"),
        ]
    ):
        top = 100 + row * 110
        screen.say(60, top, label, 16)
        screen.box(60, top + 26, 520, 40, "white", "#d93025" if wrong else "#bbbbbb")
        screen.say(74, top + 36, value, 16)
        if wrong:
            screen.say(60, top + 72, wrong, 14, "#d93025")
    screen.box(60, 550, 160, 44, "#1a73e8")
    screen.say(84, 562, "Submit form", 16, "white")
    return screen


def traceback() -> Screen:
    screen = Screen(1280, 520, "#1e1e1e", "#d4d4d4", font=MONO)
    for row, line in enumerate(
        """Traceback (most recent call last):
  File "/srv/app/worker.py", line 214, in run
    result = handler.process(batch, timeout=30)
  File "/srv/app/handlers/invoice.py", line 87, in process
    total = sum(item.price * item.quantity for item in batch.items)
  File "/srv/app/models.py", line 41, in quantity
    return int(self.raw["quantity"])
KeyError: 'quantity'

During handling of the above exception, another exception occurred:

sqlalchemy.exc.OperationalError: connection to server at "10.0.4.17", port 5432 failed
    Connection refused. Is the server running on that host?
[2026-03-14 09:26:53] ERROR worker-3 giving up after 5 attempts""".splitlines()
    ):
        if line:
            screen.say(24, 24 + row * 30, line, 16, "#f48771" if "Error" in line else None)
    return screen


def table() -> Screen:
    screen = Screen(1100, 460)
    columns = (30, 200, 480, 690, 900)
    rows = """Order|Customer|Status|Amount|Due date
10482|Northwind Traders|Shipped|1,240.50|2026-04-02
10483|Alpine Ski House|Pending|310.00|2026-04-05
10484|Contoso Pharmaceuticals|Cancelled|87.25|2026-04-05
10485|Fabrikam Residences|Refunded|4,999.99|2026-04-09
10486|Tailspin Toys|Overdue|62.10|2026-03-28
10487|Wide World Importers|Shipped|728.40|2026-04-11"""
    for row, line in enumerate(rows.splitlines()):
        screen.box(10, 20 + row * 56, 1080, 56, "#eef1f5" if row % 2 == 0 else "white", "#cccccc")
        for column, cell in zip(columns, line.split("|"), strict=True):
            screen.say(column, 36 + row * 56, cell, 18)
    return screen


def dark_settings() -> Screen:
    screen = Screen(1000, 560, "#16181d", "#e6e6e6")
    screen.say(40, 30, "Notification settings", 26)
    for row, (name, meaning) in enumerate(
        [
            ("Weekly summary", "Send a digest every Monday morning"),
            ("Security alerts", "Warn me about sign in from unknown devices"),
            ("Product updates", "Tell me when new features are released"),
            ("Billing reminders", "Seven days before an invoice is due"),
        ]
    ):
        screen.box(40, 90 + row * 100, 920, 84, "#22252c")
        screen.say(60, 104 + row * 100, name, 18)
        screen.say(60, 134 + row * 100, meaning, 15, "#9aa0a6")
    return screen


def retina_chat() -> Screen:
    screen = Screen(720, 520, "#ffffff", scale=2)
    for row, (mine, line) in enumerate(
        [
            (False, "Hi, my parcel has not arrived yet."),
            (True, "Sorry to hear that! What is your order number?"),
            (False, "It is 7731902, ordered last Thursday."),
            (True, "Thanks. The carrier lost it near Rotterdam."),
            (True, "We will send a replacement tomorrow, free of charge."),
            (False, "Great, please use my office address instead."),
        ]
    ):
        left = 260 if mine else 30
        screen.box(left, 30 + row * 78, 430, 54, "#d2e9ff" if mine else "#ececec")
        screen.say(left + 14, 46 + row * 78, line, 15)
    return screen


def low_contrast() -> Screen:
    screen = Screen(900, 400, "#ffffff", "#a0a0a0")
    for row, line in enumerate(
        [
            "No results were found for your search",
            "Try removing some filters or check the spelling",
            "Archived projects are hidden by default",
            "Contact an administrator to restore deleted items",
        ]
    ):
        screen.say(60, 60 + row * 70, line, 18)
    return screen


def german() -> Screen:
    screen = Screen(1000, 480, font=SANS)
    for row, line in enumerate(
        [
            "Die Überweisung konnte nicht ausgeführt werden",
            "Bitte prüfen Sie Empfänger und Kontonummer",
            "Verfügbarer Betrag: 1.204,50 Euro",
            "Gebühren für Auslandsaufträge: zwölf Prozent",
            "Straße und Hausnummer fehlen",
            "Später erneut versuchen oder Änderungen verwerfen",
        ]
    ):
        screen.say(50, 40 + row * 66, line, 20)
    return screen


def chinese() -> Screen:
    screen = Screen(900, 420, font=CHINESE)
    for row, line in enumerate(
        ["系统错误 请稍后重试", "用户名或密码不正确", "订单编号 20260314", "网络连接已断开", "请联系管理员"]
    ):
        screen.say(50, 40 + row * 70, line, 24)
    return screen


def full_hd_dialog() -> Screen:
    screen = Screen(1920, 1080, "#30506e", "#202020")
    screen.box(560, 340, 800, 360, "#f0f0f0", "#888888")
    screen.say(590, 362, "Backup Assistant", 20)
    screen.say(590, 420, "The backup could not be completed", 18)
    screen.say(590, 464, "There is not enough space on the external disk", 16)
    screen.say(590, 494, "Required 128 GB, available 37 GB", 16)
    screen.say(590, 524, "Error code 0x80070070", 16)
    screen.box(1010, 630, 150, 44, "#ffffff", "#888888")
    screen.say(1046, 642, "Try again", 16)
    screen.box(1180, 630, 150, 44, "#ffffff", "#888888")
    screen.say(1226, 642, "Cancel", 16)
    screen.say(40, 1030, "Connected to office network", 16, "white")
    screen.say(1700, 1030, "Tuesday 14:32", 16, "white")
    return screen


def phone() -> Screen:
    screen = Screen(390, 844, "#fafafa", scale=3)
    screen.say(24, 60, "Checkout", 28)
    for row, (left, right) in enumerate(
        [("Wireless keyboard", "59.90"), ("Laptop stand", "34.00"), ("Shipping", "4.95"), ("Discount", "10.00")]
    ):
        screen.say(24, 130 + row * 46, left, 16)
        screen.say(310, 130 + row * 46, right, 16)
    screen.say(24, 340, "Total amount", 20)
    screen.say(300, 340, "88.85", 20)
    screen.box(24, 420, 342, 70, "#fdecea")
    screen.say(36, 432, "Your card was declined.", 15, "#b3261e")
    screen.say(36, 458, "Choose another payment method.", 15, "#b3261e")
    screen.box(24, 740, 342, 52, "#0b57d0")
    screen.say(150, 755, "Pay securely", 17, "white")
    return screen


def terminal() -> Screen:
    screen = Screen(1100, 420, "#000000", "#33ff66", font=MONO)
    for row, line in enumerate(
        """$ kubectl get pods --namespace billing
NAME                      READY   STATUS             RESTARTS
api-server                1/1     Running            0
payment-worker            0/1     CrashLoopBackOff   17
scheduler                 1/1     Running            2
$ docker push registry.example.com/payments
denied: requested access to the resource is denied
$ df -h /var/lib/postgresql
Filesystem full: no space left on device""".splitlines()
    ):
        screen.say(20, 20 + row * 40, line, 17)
    return screen


def coloured_buttons() -> Screen:
    screen = Screen(1000, 360, "#ffffff")
    for place, (text, fill, ink) in enumerate(
        [
            ("Save changes", "#188038", "white"),
            ("Delete account", "#d93025", "white"),
            ("Download report", "#fbbc04", "#202124"),
            ("Invite colleague", "#a142f4", "white"),
            ("Schedule meeting", "#12b5cb", "#001b20"),
            ("Export spreadsheet", "#e8eaed", "#3c4043"),
        ]
    ):
        left, top = 40 + place % 3 * 310, 60 + place // 3 * 130
        screen.box(left, top, 280, 70, fill)
        screen.say(left + 40, top + 22, text, 20, ink)
    return screen


def small_print() -> Screen:
    screen = Screen(800, 300, "#ffffff", "#333333")
    for row, line in enumerate(
        [
            "By continuing you agree to the terms of service and the privacy policy of this website.",
            "Refunds are possible within fourteen days after delivery if the seal has not been broken.",
            "Prices include value added tax; customs duties may apply for deliveries to other countries.",
            "Questions about an existing order are answered by telephone on weekdays between nine and five.",
        ]
    ):
        screen.say(30, 40 + row * 44, line, 13)
    return screen


SCREENS: dict[str, Callable[[], Screen]] = {
    one.__name__: one
    for one in (
        form_errors,
        traceback,
        table,
        dark_settings,
        retina_chat,
        low_contrast,
        german,
        chinese,
        full_hd_dialog,
        phone,
        terminal,
        coloured_buttons,
        small_print,
    )
}
"""Thirteen; the fonts of four must be installed."""
