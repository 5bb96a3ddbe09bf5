"""Draws a Textual screen as a PNG: the exact cells, each glyph from the first font that has it.

No browser and no terminal: the strips of the compositor are drawn with Pillow. Block and box characters, arrows and
dots of Braille are drawn as shapes, so that they meet without seams whatever the fonts say.
"""

from __future__ import annotations

import functools
import math
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import MONOKAI
from textual.strip import Strip

FONT_SIZE = 17
CELL_WIDTH = 10
CELL_HEIGHT = 22
BASELINE = 16
SCALE = 2
"""Pixels per unit: figures stay sharp on screens of high density."""
FOREGROUND = (197, 206, 219)
BACKGROUND = (15, 19, 26)

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/Library/Fonts")
WANTED = {
    "JetBrainsMono-Regular.ttf": "fonts-jetbrains-mono",
    "JetBrainsMono-Bold.ttf": "fonts-jetbrains-mono",
    "DejaVuSansMono.ttf": "fonts-dejavu-core",
    "DejaVuSansMono-Bold.ttf": "fonts-dejavu-core",
    "DejaVuSans.ttf": "fonts-dejavu-core",
}
"""Font files, and the Debian packages that have them."""

Rgb = tuple[int, int, int]
_LINES = {
    "─": "lr", "│": "ud", "╭": "rd", "╮": "ld", "╯": "lu", "╰": "ru", "├": "urd", "┤": "uld", "┬": "lrd", "┴": "lru",
    "┼": "lrud", "┌": "rd", "┐": "ld", "┘": "lu", "└": "ru", "━": "LR", "╸": "L", "╺": "R", "╶": "r", "╴": "l",
}  # fmt: skip


class FontsMissing(RuntimeError):
    """Needed fonts are not installed; the text says how to get them."""


def find_fonts() -> dict[str, Path]:
    """Where the wanted fonts are: asked of fontconfig, else looked for in the usual folders."""
    known: dict[str, Path] = {}
    try:
        listed = subprocess.run(["fc-list", "--format", "%{file}\n"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        listed = ""
    paths: list[Path] = [Path(line) for line in listed.splitlines()]
    if not any(path.name in WANTED for path in paths):
        paths += [path for folder in FONT_FOLDERS for path in Path(folder).expanduser().rglob("*.ttf")]
    for path in paths:
        if path.name in WANTED:
            known.setdefault(path.name, path)
    missing = [name for name in WANTED if name not in known]
    if missing:
        packages = " ".join(sorted({WANTED[name] for name in missing}))
        raise FontsMissing(f"fonts are missing: {', '.join(missing)}; on Debian: apt-get install {packages}")
    return known


@functools.cache
def _fonts(bold: bool) -> tuple[ImageFont.FreeTypeFont, ...]:
    known = find_fonts()
    names = ["JetBrainsMono-Bold.ttf", "DejaVuSansMono-Bold.ttf"] if bold else ["JetBrainsMono-Regular.ttf"]
    names += ["DejaVuSansMono.ttf", "DejaVuSans.ttf"]
    return tuple(ImageFont.truetype(str(known[name]), FONT_SIZE * SCALE) for name in names)


@functools.cache
def _font_with(char: str, bold: bool) -> ImageFont.FreeTypeFont:
    """The first font that has a picture for this character."""
    fonts = _fonts(bold)
    for font in fonts:
        missing, drawn = font.getmask("\uffff"), font.getmask(char)
        if drawn.size != missing.size or bytes(drawn) != bytes(missing):
            return font
    return fonts[0]


def _rgb(color: Color | None, otherwise: Rgb, *, foreground: bool) -> Rgb:
    if color is None or color.is_default:
        return otherwise
    red, green, blue = color.get_truecolor(MONOKAI, foreground=foreground)
    return red, green, blue


def _colours(style: Style | None) -> tuple[Rgb, Rgb]:
    if style is None:
        return FOREGROUND, BACKGROUND
    front = _rgb(style.color, FOREGROUND, foreground=True)
    back = _rgb(style.bgcolor, BACKGROUND, foreground=False)
    if style.reverse:
        front, back = back, front
    if style.dim:
        front = tuple((f + b) // 2 for f, b in zip(front, back, strict=True))  # type: ignore[assignment]
    return front, back


def draw(strips: Sequence[Strip], width: int) -> Image.Image:
    """The strips, one a line, ``width`` cells wide."""
    cell, line = CELL_WIDTH * SCALE, CELL_HEIGHT * SCALE
    image = Image.new("RGB", (width * cell, len(strips) * line), BACKGROUND)
    pen = ImageDraw.Draw(image)
    for row, strip in enumerate(strips):
        column = 0
        for segment in strip:
            front, back = _colours(segment.style)
            cells = cell_len(segment.text)
            if cells and back != BACKGROUND:
                box = (column * cell, row * line, (column + cells) * cell - 1, (row + 1) * line - 1)
                pen.rectangle(box, fill=back)
            bold = bool(segment.style and segment.style.bold)
            for char in segment.text:
                _glyph(pen, char, column * cell, row * line, front, bold)
                column += cell_len(char)
            if cells and segment.style and segment.style.underline:
                y = row * line + (BASELINE + 3) * SCALE
                pen.rectangle(((column - cells) * cell, y, column * cell - 1, y + SCALE - 1), fill=front)
    return image


def _glyph(pen: ImageDraw.ImageDraw, char: str, x: int, y: int, colour: Rgb, bold: bool) -> None:
    if char == " " or not cell_len(char):
        return
    if char in _LINES:
        _box(pen, _LINES[char], char in "╭╮╯╰", x, y, colour)
    elif "▀" <= char <= "▐":
        _block(pen, ord(char), x, y, colour)
    elif "\u2800" <= char <= "\u28ff":
        _braille(pen, ord(char) - 0x2800, x, y, colour)
    elif char == "▶":
        middle, half = y + CELL_HEIGHT * SCALE // 2, 5 * SCALE
        pen.polygon([(x + SCALE, middle - half), (x + 9 * SCALE, middle), (x + SCALE, middle + half)], fill=colour)
    else:
        pen.text((x, y + BASELINE * SCALE), char, font=_font_with(char, bold), fill=colour, anchor="ls")


def _box(pen: ImageDraw.ImageDraw, sides: str, rounded: bool, x: int, y: int, colour: Rgb) -> None:
    """Lines from the middle of the cell to its sides; capitals are heavy."""
    width, height = CELL_WIDTH * SCALE, CELL_HEIGHT * SCALE
    thick = SCALE * 2 if sides.isupper() else SCALE + SCALE // 2
    left, top = x + (width - thick) // 2, y + (height - thick) // 2
    if rounded:
        pen.bitmap((x, y), _corner(sides, thick), fill=colour)
        return
    boxes = {
        "l": (x, top, left + thick - 1, top + thick - 1),
        "r": (left, top, x + width - 1, top + thick - 1),
        "u": (left, y, left + thick - 1, top + thick - 1),
        "d": (left, top, left + thick - 1, y + height - 1),
    }
    for side in sides.lower():
        pen.rectangle(boxes[side], fill=colour)


@functools.cache
def _corner(sides: str, thick: int) -> Image.Image:
    """A quarter of a circle and the straight line that goes on from it, as a mask."""
    width, height = CELL_WIDTH * SCALE, CELL_HEIGHT * SCALE
    left, top = (width - thick) // 2, (height - thick) // 2
    middle_x, middle_y = left + thick / 2, top + thick / 2
    radius = width / 2
    centre_x = middle_x + (radius if "r" in sides else -radius)
    centre_y = middle_y + (radius if "d" in sides else -radius)
    mask = Image.new("L", (width, height))
    for y in range(height):
        for x in range(width):
            across, along = x + 0.5 - centre_x, y + 0.5 - centre_y
            on_curve = (across < 0) == ("r" in sides) and (along < 0) == ("d" in sides)
            straight = not on_curve and (along >= 0) == ("d" in sides)
            distance = abs(math.hypot(across, along) - radius) if on_curve else abs(x + 0.5 - middle_x)
            if on_curve or straight:
                mask.putpixel((x, y), round(255 * max(0.0, min(1.0, thick / 2 + 0.5 - distance))))
    return mask


def _block(pen: ImageDraw.ImageDraw, code: int, x: int, y: int, colour: Rgb) -> None:
    width, height = CELL_WIDTH * SCALE, CELL_HEIGHT * SCALE
    if 0x2581 <= code <= 0x2588:  # lower eighths
        pen.rectangle((x, y + height - height * (code - 0x2580) // 8, x + width - 1, y + height - 1), fill=colour)
    elif 0x2589 <= code <= 0x258F:  # left eighths
        pen.rectangle((x, y, x + width * (0x2590 - code) // 8 - 1, y + height - 1), fill=colour)
    elif code == 0x2590:
        pen.rectangle((x + width // 2, y, x + width - 1, y + height - 1), fill=colour)
    else:
        pen.rectangle((x, y, x + width - 1, y + height // 2 - 1), fill=colour)


def _braille(pen: ImageDraw.ImageDraw, dots: int, x: int, y: int, colour: Rgb) -> None:
    places = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
    for bit, (right, down) in enumerate(places):
        if dots >> bit & 1:
            centre_x = x + (3 + 4 * right) * SCALE
            centre_y = y + (4 + 5 * down) * SCALE
            pen.ellipse((centre_x - SCALE, centre_y - SCALE, centre_x + SCALE, centre_y + SCALE), fill=colour)


def save(strips: Iterable[Strip], width: int, path: Path) -> None:
    """Writes the picture; half a palette of colours is enough and keeps the file small."""
    image = draw(list(strips), width)
    image.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
