"""Times of records that know their year and of records that do not (``Nov 20 10:00:01``), on one scale."""

from __future__ import annotations

from datetime import UTC, datetime

_YEAR = 366 * 86400


def within_year(time: float | None) -> float | None:
    """Seconds since the beginning of the year; None where the time is not known, or falls on a leap day."""
    if time is None or time < _YEAR:
        return time
    when = datetime.fromtimestamp(time, UTC)
    return None if (when.month, when.day) == (2, 29) else when.replace(year=1970).timestamp()
