"""The guest of the lab, for tests that run a program of their own in it."""

from __future__ import annotations

from deadhop.lab.guest import run, unavailable

__all__ = ["run", "unavailable"]
