"""A program in a terminal, and what the terminal shows as HTML, for the pictures."""

from __future__ import annotations

import fcntl
import html
import itertools
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte

#: What a terminal with a dark background answers to the question for its colour.
ASKED, ANSWER = b"\x1b]11;?", b"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\"
PAGE = """<!DOCTYPE html><meta charset="utf-8"><style>
body { margin: 0; background: #1e1e1e; width: max-content; }
pre { margin: 0; padding: 14px 18px; color: #d4d4d4; font: 15px/18px "DejaVu Sans Mono"; }
i { display: inline-block; width: 1ch; height: 18px; overflow: hidden; vertical-align: top; }
i { font-style: normal; }
svg { display: block; fill: currentcolor; }
</style><pre>%s</pre>"""
#: The eight colours that have names.
NAMED = {
    "black": "#4d4d4d",
    "red": "#f14c4c",
    "green": "#23d18b",
    "brown": "#e5e510",
    "blue": "#3b8eea",
    "magenta": "#d670d6",
    "cyan": "#29b8db",
    "white": "#e5e5e5",
}


class Terminal:
    """A program that believes that it is in a terminal."""

    def __init__(
        self, command: Sequence[str], size: tuple[int, int], cwd: Path, env: Mapping[str, str]
    ) -> None:
        """Start it.

        Args:
            command: with its arguments.
            size: columns and rows.
            cwd: where it is started.
            env: its environment; a kind of terminal is added.
        """
        self.written = b""
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(self._screen.display)

    def colours_of(self, is_one: Callable[[str], bool]) -> set[str]:
        """The colours that some of the characters on the screen have."""
        rows = (self._screen.buffer[y] for y in range(self._screen.lines))
        return {cell.fg for row in rows for cell in row.values() if is_one(cell.data)}

    def wait(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait until what is on the screen fulfils a condition."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.text
            if not self._read(0.5) and self._process.poll() is not None:
                raise AssertionError(self.text)

    def drag(self, column: int, to: int, row: int) -> None:
        """Press the mouse's button, move and release it; columns and rows begin with 1."""
        moves = (f"0;{column};{row}M", f"32;{to};{row}M", f"0;{to};{row}m")
        os.write(self._mine, "".join(f"\x1b[<{one}" for one in moves).encode())

    def rest(self, seconds: float = 300) -> bytes:
        """Wait for the program's end; return all that it has written."""
        end = time.monotonic() + seconds
        while self._read(0.5) or self._process.poll() is None:
            assert time.monotonic() < end, self.text
        assert self._process.returncode == 0, self.text
        return self.written

    def close(self) -> None:
        """End the program."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._mine)

    def _read(self, seconds: float) -> bool:
        """Read what is there; False for nothing."""
        if not select.select([self._mine], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._mine, 65536)
        except OSError:  # so ends a pty under Linux
            return False
        self.written += data
        self._stream.feed(data)
        if ASKED in data:
            os.write(self._mine, ANSWER)
        return bool(data)

    @property
    def page(self) -> str:
        """The screen as HTML."""
        return page_of(self._screen)


def shown(written: bytes, columns: int) -> str:
    """What a terminal shows of these bytes, as HTML, as many lines as there are."""
    screen = pyte.Screen(columns, 200)
    pyte.ByteStream(screen).feed(written)
    return page_of(screen, lines=screen.cursor.y)


def page_of(screen: Any, lines: int | None = None) -> str:
    """A screen as HTML."""
    rows = []
    for y in range(screen.lines if lines is None else lines):
        line = (screen.buffer[y][x] for x in range(screen.columns))
        parts = itertools.groupby(line, key=_style)
        rows.append("".join(_span(style, "".join(c.data for c in cells)) for style, cells in parts))
    return PAGE % "\n".join(rows)


def _style(cell: Any) -> str:
    front, back = _colour(cell.fg), _colour(cell.bg)
    if cell.reverse:
        front, back = back or "#1e1e1e", front or "#d4d4d4"
    given = {"color": front, "background": back, "font-weight": "bold" if cell.bold else ""}
    return ";".join(f"{name}:{value}" for name, value in given.items() if value)


def _colour(name: str) -> str:
    return "" if name == "default" else NAMED.get(name.removeprefix("bright"), f"#{name}")


def _span(style: str, text: str) -> str:
    inner = "".join(html.escape(one) if one.isascii() else f"<i>{_glyph(one)}</i>" for one in text)
    return f'<span style="{style}">{inner}</span>' if style else inner


def _glyph(one: str) -> str:
    """A character that the font may not have in a cell's width; Braille's dots are drawn."""
    dots = ord(one) - 0x2800
    if not is_braille(one):
        return html.escape(one)
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
    drawn = "".join(
        f'<circle cx="{2.25 + 4.5 * x}" cy="{2.25 + 4.5 * y}" r="1.4"/>'
        for bit, (x, y) in enumerate(places)
        if dots >> bit & 1
    )
    return f'<svg width="9" height="18">{drawn}</svg>'


def is_braille(one: str) -> bool:
    """Is a character one of Braille's, which terminals use for charts?"""
    return 0x2800 < ord(one[:1] or " ") <= 0x28FF
