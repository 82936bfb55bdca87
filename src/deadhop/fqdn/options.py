"""Cilium's versions, and the agent's DNS flags with their default in each version.

A flag that a version does not document has no default there (``None`` in the table). ConfigMap ``cilium-config``
holds effective values under the flag names; what it leaves out has the version's default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class Version(NamedTuple):
    """A Cilium version, ordered. ``patch`` matters where a change was backported to a patch release."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read ``1.16``, ``v1.16.3``, ``1.18.5-rc.1``. Raises ``ValueError``."""
        found = re.match(r"\s*v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?", text)
        if not found:
            raise ValueError(f"not a Cilium version: {text!r}")
        return cls(int(found[1]), int(found[2]), int(found[3] or 0))

    def has(self, since: Version, *backports: Version) -> bool:
        """True from ``since`` on, and in the minors of ``backports`` from their patch releases on."""
        return self >= since or any(self[:2] == backport[:2] and self >= backport for backport in backports)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + (f".{self.patch}" if self.patch else "")


V1_11 = Version(1, 11)
V1_12 = Version(1, 12)
V1_13 = Version(1, 13)
V1_14 = Version(1, 14)
V1_15 = Version(1, 15)
V1_16 = Version(1, 16)
V1_17 = Version(1, 17)
V1_18 = Version(1, 18)
V1_19 = Version(1, 19)
V1_20 = Version(1, 20)
VERSIONS = (V1_11, V1_12, V1_13, V1_14, V1_15, V1_16, V1_17, V1_18, V1_19, V1_20)
LATEST = VERSIONS[-1]

Value = str | int | bool


class Flag(msgspec.Struct, frozen=True):
    """One agent flag. ``since`` lists, oldest first, from which minor on a default holds (None: undocumented)."""

    name: str
    since: tuple[tuple[int, Value | None], ...]
    hidden: bool = False
    note: str = ""

    def default(self, version: Version) -> Value | None:
        """The default in ``version``; None where that version does not document the flag."""
        value: Value | None = None
        for minor, default in self.since:
            if version[:2] >= (1, minor):
                value = default
        return value


def _flag(name: str, *since: tuple[int, Value | None], hidden: bool = False, note: str = "") -> Flag:
    return Flag(name, since, hidden, note)


FLAGS: dict[str, Flag] = {
    flag.name: flag
    for flag in (
        _flag("tofqdns-min-ttl", (11, 3600), (14, 0)),
        _flag("tofqdns-endpoint-max-ip-per-hostname", (11, 50), (17, 1000)),
        _flag("tofqdns-max-deferred-connection-deletes", (11, 10000)),
        _flag("tofqdns-idle-connection-grace-period", (11, "0s")),
        _flag("tofqdns-proxy-response-max-delay", (11, "100ms")),
        _flag("tofqdns-proxy-port", (11, 0)),
        _flag("tofqdns-dns-reject-response-code", (11, "refused")),
        _flag("tofqdns-enable-dns-compression", (11, True)),
        _flag("tofqdns-pre-cache", (11, ""), note="deprecated and hidden since 1.20"),
        _flag("tofqdns-preallocate-identities", (18, True)),
        _flag("dns-max-ips-per-restored-rule", (11, 1000)),
        _flag("dnsproxy-concurrency-limit", (11, 0)),
        _flag("dnsproxy-concurrency-processing-grace-period", (11, "0s")),
        _flag(
            "dnsproxy-lock-count",
            (14, 128),
            (15, 131),
            hidden=True,
            note="locks by address in 1.14, no effect in 1.15, by name since 1.16",
        ),
        _flag("dnsproxy-lock-timeout", (14, "500ms"), hidden=True, note="no effect in 1.15"),
        _flag(
            "dnsproxy-enable-transparent-mode",
            (16, False),
            note="also in late 1.14 and 1.15 patches; the Helm chart sets true since 1.16",
        ),
        _flag("dnsproxy-socket-linger-timeout", (17, 10), note="also in late 1.15 and 1.16 patches"),
        _flag("enable-standalone-dns-proxy", (18, False)),
        _flag("standalone-dns-proxy-server-port", (18, 40045), (19, 10095)),
        _flag("conntrack-gc-interval", (11, "0s"), note="0 is adaptive"),
        _flag("conntrack-gc-max-interval", (15, "0s")),
        _flag("fqdn-regex-compile-lru-size", (11, 1024), hidden=True),
        _flag("dns-policy-unload-on-shutdown", (12, False)),
        _flag("dnsproxy-insecure-skip-transparent-mode-check", (17, False), hidden=True),
    )
}


HELM_VALUES: dict[str, str] = {
    "dnsProxy.dnsRejectResponseCode": "tofqdns-dns-reject-response-code",
    "dnsProxy.enableDnsCompression": "tofqdns-enable-dns-compression",
    "dnsProxy.enableTransparentMode": "dnsproxy-enable-transparent-mode",
    "dnsProxy.endpointMaxIpPerHostname": "tofqdns-endpoint-max-ip-per-hostname",
    "dnsProxy.idleConnectionGracePeriod": "tofqdns-idle-connection-grace-period",
    "dnsProxy.maxDeferredConnectionDeletes": "tofqdns-max-deferred-connection-deletes",
    "dnsProxy.minTtl": "tofqdns-min-ttl",
    "dnsProxy.preAllocateIdentities": "tofqdns-preallocate-identities",
    "dnsProxy.preCache": "tofqdns-pre-cache",
    "dnsProxy.proxyPort": "tofqdns-proxy-port",
    "dnsProxy.proxyResponseMaxDelay": "tofqdns-proxy-response-max-delay",
    "dnsProxy.socketLingerTimeout": "dnsproxy-socket-linger-timeout",
}

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (``100ms``, ``1h30m``); a bare ``0`` is zero. Raises ``ValueError``."""
    body = text.strip().lstrip("+")
    if body == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(body):
        found = _DURATION.match(body, at)
        if not found:
            break
        total += float(found[1]) * _UNITS[found[2]]
        at = found.end()
    if not body or at != len(body):
        raise ValueError(f"not a Go duration: {text!r}")
    return total


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The effective values that decide toFQDNs behaviour. Durations in seconds."""

    min_ttl: int = 0
    max_ips_per_hostname: int = 1000
    max_deferred_connection_deletes: int = 10000
    idle_connection_grace_period: float = 0.0
    proxy_response_max_delay: float = 0.1
    reject_response_code: str = "refused"
    enable_dns_compression: bool = True
    max_ips_per_restored_rule: int = 1000
    concurrency_limit: int = 0
    concurrency_processing_grace_period: float = 0.0
    preallocate_identities: bool = True
    policy_unload_on_shutdown: bool = False


_FIELDS: tuple[tuple[str, str, type], ...] = (
    ("min_ttl", "tofqdns-min-ttl", int),
    ("max_ips_per_hostname", "tofqdns-endpoint-max-ip-per-hostname", int),
    ("max_deferred_connection_deletes", "tofqdns-max-deferred-connection-deletes", int),
    ("idle_connection_grace_period", "tofqdns-idle-connection-grace-period", float),
    ("proxy_response_max_delay", "tofqdns-proxy-response-max-delay", float),
    ("reject_response_code", "tofqdns-dns-reject-response-code", str),
    ("enable_dns_compression", "tofqdns-enable-dns-compression", bool),
    ("max_ips_per_restored_rule", "dns-max-ips-per-restored-rule", int),
    ("concurrency_limit", "dnsproxy-concurrency-limit", int),
    ("concurrency_processing_grace_period", "dnsproxy-concurrency-processing-grace-period", float),
    ("preallocate_identities", "tofqdns-preallocate-identities", bool),
    ("policy_unload_on_shutdown", "dns-policy-unload-on-shutdown", bool),
)


def _convert(value: Value, kind: type) -> Value | float:
    if kind is bool:
        if isinstance(value, str):
            lowered = value.strip().lower()
            if lowered in ("true", "t", "1"):
                return True
            if lowered in ("false", "f", "0"):
                return False
            raise ValueError(f"not a boolean: {value!r}")
        return bool(value)
    if kind is int:
        return int(value)
    if kind is float:
        return parse_duration(value) if isinstance(value, str) else float(value)
    return str(value)


def options_for(
    version: Version, config: Mapping[str, Value] | None = None
) -> tuple[Options, tuple[tuple[str, str], ...]]:
    """Options as an agent of ``version`` with the ConfigMap ``config`` has them, and what could not be read.

    Unknown keys of ``config`` are not DNS flags and are passed over. A value that does not parse leaves the
    default and is reported as ``(flag, complaint)``.
    """
    given = config or {}
    values: dict[str, Value | float] = {}
    complaints: list[tuple[str, str]] = []
    for field, name, kind in _FIELDS:
        default = FLAGS[name].default(version)
        raw = given.get(name, default)
        if raw is None:
            values[field] = False if kind is bool else kind()
            continue
        try:
            values[field] = _convert(raw, kind)
        except ValueError as error:
            complaints.append((name, str(error)))
            values[field] = _convert(default, kind) if default is not None else kind()
    return msgspec.convert(values, Options), tuple(complaints)
