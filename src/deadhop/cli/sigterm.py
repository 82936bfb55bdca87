"""SIGTERM ends a command as Ctrl-C does: with its clean-up."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_on_sigterm() -> None:
    """Turns SIGTERM into an exit, so that what was made is removed on the way out."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)
