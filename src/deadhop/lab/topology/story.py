"""What a run says: each step, what was seen, what the kernel counted, what was expected."""

from __future__ import annotations

import os
import sys
from typing import TextIO


class Story:
    """Prints a run as it goes and keeps the score. ``checks`` holds ``(what, held)`` in order."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.checks: list[tuple[str, bool]] = []
        self.steps = 0
        self._colour = self.out.isatty() and not os.environ.get("NO_COLOR")

    def say(self, text: str = "", indent: int = 0) -> None:
        """A line, or several."""
        for line in text.splitlines() or [""]:
            print(" " * indent + line if line else "", file=self.out, flush=True)

    def title(self, name: str, text: str, about: str = "") -> None:
        self.say(f"{self._paint(name, '1')}: {text}")
        if about:
            self.say(about.strip(), 2)

    def step(self, text: str) -> None:
        """Begins a numbered step."""
        self.steps += 1
        self.say()
        self.say(f"{self.steps}. {text}")

    def saw(self, text: str, label: str = "") -> None:
        """What was sent or seen."""
        first = f"{label + ': ':<11}" if label else ""
        for number, line in enumerate(text.splitlines() or [""]):
            self.say((first if not number else " " * len(first)) + line, 3)

    def check(self, what: str, held: bool, seen: str = "") -> bool:
        """An expectation and whether it held; ``seen`` is printed where it did not."""
        self.checks.append((what, held))
        mark = self._paint("ok", "32") if held else self._paint("NOT SO", "31")
        self.say(f"expected: {what}: {mark}" + (f" ({seen})" if seen and not held else ""), 3)
        return held

    @property
    def failed(self) -> list[str]:
        """The expectations that did not hold."""
        return [what for what, held in self.checks if not held]

    def end(self) -> None:
        """The last line."""
        self.say()
        if self.failed:
            self.say(
                f"{self._paint('not as expected', '31')}: {len(self.failed)} of {len(self.checks)} did not hold"
            )
        else:
            self.say(f"{self._paint('as expected', '32')}: all {len(self.checks)} expectations held")

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text
