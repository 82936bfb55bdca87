"""Progress on standard error, on a terminal, for work that takes longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(verb: str) -> Iterator[Callable[[str], None]]:
    """Gives a function to call with the name of each piece of work; its line is wiped at the end."""
    started = time.monotonic()
    shown = 0

    def tick(name: str) -> None:
        nonlocal shown
        if sys.stderr.isatty() and time.monotonic() - started > 1.0:
            text = f"{verb} {name}"[-100:]
            sys.stderr.write("\r" + text.ljust(shown))
            sys.stderr.flush()
            shown = max(shown, len(text))

    try:
        yield tick
    finally:
        if shown:
            sys.stderr.write("\r" + " " * shown + "\r")
