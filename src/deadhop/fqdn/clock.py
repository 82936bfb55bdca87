"""Times as Go prints them. A time is seconds since the Unix epoch; :data:`ZERO` is Go's zero time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import msgspec

ZERO = -math.inf
_ZERO_TEXT = "0001-01-01T00:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(time: float) -> datetime:
    """A time as ``datetime`` in UTC. Rounded to microseconds, what a ``float`` of today's epoch can hold."""
    return _EPOCH + timedelta(microseconds=round(time * 1e6))


def rfc3339_milli(time: float, offset: timedelta | None = None) -> str:
    """RFC 3339 with exactly three decimals, cut and not rounded, ``Z`` or the zone's offset."""
    if time == ZERO:
        return "0001-01-01T00:00:00.000Z"
    moment = to_datetime(time)
    if offset:
        return moment.astimezone(timezone(offset)).isoformat(timespec="milliseconds")
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_nano(time: float) -> str:
    """RFC 3339 as Go's JSON encoder writes a time in UTC: no trailing zeros in the fraction."""
    if time == ZERO:
        return _ZERO_TEXT
    moment = to_datetime(time)
    whole = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment.microsecond:06d}".rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def from_rfc3339(text: str) -> float:
    """Read an RFC 3339 time; Go's zero time gives :data:`ZERO`. Raises ``ValueError``."""
    if text.startswith("0001-01-01T00:00:00"):
        return ZERO
    try:
        moment = msgspec.convert(text, datetime, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"not an RFC 3339 time: {text!r}") from error
    if moment.tzinfo is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    return (moment - _EPOCH) / timedelta(seconds=1)


def protojson_time(time: float) -> str:
    """A protobuf timestamp as protojson writes it: no fraction, or three or six digits."""
    moment = to_datetime(time)
    whole = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if not moment.microsecond:
        return f"{whole}Z"
    if moment.microsecond % 1000:
        return f"{whole}.{moment.microsecond:06d}Z"
    return f"{whole}.{moment.microsecond // 1000:03d}Z"


def stamp_milli(time: float, offset: timedelta | None = None) -> str:
    """Go's ``StampMilli`` (``Jan _2 15:04:05.000``) in the zone of ``offset``, UTC by default."""
    moment = to_datetime(time) + (offset or timedelta())
    return f"{moment:%b} {moment.day:>2} {moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
