"""Small pieces that many formats share: addresses with ports, durations, times, sizes. All of them total."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_UNIT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MONTHS = {m: i for i, m in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_SYSLOG = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d(?:\.\d+)?)")

#: Names that tcpdump and kubectl print for ports.
PORTS = {
    "domain": 53,
    "http": 80,
    "https": 443,
    "kerberos": 88,
    "ldap": 389,
    "kpasswd": 464,
    "mdns": 5353,
    "ssh": 22,
    "http-alt": 8080,
    "ntp": 123,
    "bootps": 67,
    "bootpc": 68,
    "vxlan": 4789,
    "otv": 8472,
}


_MASKED = re.compile(r"[<>*…]|(?:^|[.@-])[xX]{1,3}(?=[.:]|$)|redacted", re.I)


def masked(text: str) -> bool:
    """Whether a name or an address, or a part of it, was hidden before somebody showed it (``10.x.x.7``, ``<host>``)."""
    return _MASKED.search(text) is not None


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def tabbed(text: str) -> list[str]:
    """The cells between tabs. Where a terminal made spaces of the tabs, a gap that ends at a tab stop (every eighth
    column) stands for as many as it crosses."""
    if "\t" in text:
        return text.split("\t")
    cells, at = [], 0
    for gap in re.finditer(r" +", text):
        if gap.end() % 8 == 0:
            cells += [text[at : gap.start()], *[""] * (gap.end() // 8 - gap.start() // 8 - 1)]
            at = gap.end()
    return [*cells, text[at:]]


def integer(text: str | None, default: int | None = None) -> int | None:
    """The integer in ``text`` (decimal or 0x…), or ``default``."""
    try:
        return int(text, 0 if text and text[:2].lower() == "0x" else 10) if text else default
    except ValueError:
        return default


def port(text: str | None) -> int | None:
    """A port number or one of the names in ``PORTS``; None for anything else."""
    if not text:
        return None
    value = integer(text) if text.isdigit() else PORTS.get(text)
    return value if value is not None and 0 <= value <= 65535 else None


def host_port(text: str) -> tuple[str, int | None]:
    """``host:port``, ``[v6]:port``, bare host or bare IPv6."""
    text = text.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, port(rest.lstrip(":"))
    if text.count(":") > 1 and is_ip(text):
        return text, None
    host, colon, rest = text.rpartition(":")
    if colon and (value := port(rest)) is not None:
        return host, value
    return text, None


def dotted_port(text: str) -> tuple[str, int | None]:
    """tcpdump's ``address.port``."""
    host, _, last = text.rpartition(".")
    if host and is_ip(host) and (value := port(last)) is not None:
        return host, value
    return text, None


def duration(text: str) -> float | None:
    """Seconds of a Go duration (``1h2m``, ``0.000244302s``), or None."""
    parts = _DURATION.findall(text)
    return sum(float(n) * _UNIT[u] for n, u in parts) if parts else None


def rfc3339(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time (also with a blank for the T and nine digits), or None."""
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(\.\d+)?\s*(Z|UTC|[+-]\d\d:?\d\d)?", text)
    if not match:
        return None
    try:
        year, month, day, hour, minute, second = (int(g) for g in match.groups()[:6])
        when = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    zone = match[8] or "Z"
    offset = 0
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * (60 if zone[0] == "+" else -60)
    return when + float(match[7] or 0) - offset


def syslog_time(text: str, year: int | None = None) -> float | None:
    """Seconds of ``Dec 09 06:46:20`` within ``year`` (1970 where the evidence names none: only differences count)."""
    match = _SYSLOG.search(text)
    if not match or match[1] not in _MONTHS:
        return None
    try:
        day = datetime(year or 1970, _MONTHS[match[1]], int(match[2]), tzinfo=UTC)
    except ValueError:
        return None
    return day.timestamp() + int(match[3]) * 3600 + int(match[4]) * 60 + float(match[5])


def netmask_length(mask: str) -> int | None:
    """The prefix length of a dotted netmask, or None."""
    try:
        return ipaddress.ip_network(f"0.0.0.0/{mask}").prefixlen
    except ValueError:
        return None


def fqdn(name: str) -> str:
    """A DNS name in lower case without its final dot."""
    return name.strip().rstrip(".").lower()
