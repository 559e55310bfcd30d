"""Terminal of a live session: a level meter and single keys."""

import sys
from typing import Self, TextIO

from vc_lightning.live.session import Session, Status

BAR_WIDTH = 16  # characters of a level
QUIETEST_DBFS = -60.0  # at the left end of a bar; full scale is at the right
CLEAR_LINE = "\r\x1b[K"


def bar(level_dbfs: float) -> str:
    """Draw a level in dB relative to full scale."""
    share = 1 - min(max(level_dbfs / QUIETEST_DBFS, 0.0), 1.0)
    filled = round(share * BAR_WIDTH)
    return "█" * filled + "·" * (BAR_WIDTH - filled)


def line(status: Status, is_muted: bool, is_paused: bool) -> str:
    """Describe a session in one line."""
    words = [word for word, holds in (("PAUSED", is_paused), ("MUTED", is_muted)) if holds]
    minutes, seconds = divmod(int(status.seconds), 60)
    return "  ".join(
        [
            f"{minutes:02}:{seconds:02}",
            f"in {bar(status.input_dbfs)} {status.input_dbfs:4.0f} dB",
            f"out {bar(status.output_dbfs)} {status.output_dbfs:4.0f} dB",
            f"delay {1000 * status.delay_seconds:.0f} ms",
            f"load {100 * status.load:.0f} %",
            f"under-runs {status.n_underruns}",
            *([f"gaps {status.n_gaps}"] if status.n_gaps else []),
            *words,
        ]
    )


class Meter:
    """Shows a session in one line of a terminal; shows nothing if `file` is not a terminal."""

    def __init__(self, file: TextIO = sys.stderr):
        self._file = file
        self._is_shown = file.isatty()

    def show(self, session: Session) -> None:
        """Write the line of a session."""
        if self._is_shown:
            text = line(session.status, session.is_muted, session.is_paused)
            self._file.write(f"{CLEAR_LINE}{text}")
            self._file.flush()

    def clear(self) -> None:
        """Remove the line, so that a sentence can take its place."""
        if self._is_shown:
            self._file.write(CLEAR_LINE)
            self._file.flush()


class Keys:
    """Reads single keys from a terminal, without Enter; none if `file` is not a terminal."""

    def __init__(self, file: TextIO | None = sys.stdin):
        self._terminal = file if file is not None and file.isatty() else None
        self.is_active = self._terminal is not None
        self._settings: list | None = None

    def __enter__(self) -> Self:
        if self._terminal is not None and sys.platform != "win32":
            import termios
            import tty

            self._settings = termios.tcgetattr(self._terminal)
            tty.setcbreak(self._terminal)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._terminal is not None and self._settings is not None:
            import termios

            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._settings)

    def pressed(self) -> str:
        """Return the key that was pressed since the last call, in lower case; "" if none was."""
        if self._terminal is None or not self.is_active:
            return ""
        if sys.platform == "win32":
            import msvcrt

            return msvcrt.getwch().lower() if msvcrt.kbhit() else ""
        import os
        import select

        if not select.select([self._terminal], [], [], 0)[0]:
            return ""
        key = os.read(self._terminal.fileno(), 1)
        self.is_active = bool(key)  # end of file: the terminal was closed
        return key.decode(errors="replace").lower()
