"""Shared set-up: the tests' own helpers are importable, and the reference folder is found where it is."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("NO_COLOR", "1")
# A shell's background job ignores Ctrl-C and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# No test has a time limit: a busy machine is not a failure.
settings.register_profile("deadhop", deadline=None)
settings.load_profile("deadhop")
