"""Envoy's choice of a virtual host by authority.

Exact name, then the longest suffix wildcard (``*.x``, ``*-x``), then the longest prefix wildcard (``x.*``), then
``*``; a wildcard stands for at least one character. Reference: envoy ``source/common/router/config_impl.cc``
(``RouteMatcher::findVirtualHost``) and ``source/common/http/header_utility.cc`` (``getPortStart``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


def strip_port(authority: str) -> str:
    """Cut at the last colon unless a ``]`` follows it. What stands behind the colon is not looked at."""
    colon = authority.rfind(":")
    return authority if colon < 0 or authority.rfind("]") > colon else authority[:colon]


class VirtualHosts(Generic[T]):
    """Domains compiled for matching. A domain that is listed twice stays with whoever listed it first."""

    __slots__ = ("catch_all", "exact", "ignore_port", "prefixes", "suffixes")

    def __init__(self, ignore_port: bool = True) -> None:
        self.ignore_port = ignore_port
        self.exact: dict[str, T] = {}
        self.suffixes: dict[int, dict[str, T]] = {}
        self.prefixes: dict[int, dict[str, T]] = {}
        self.catch_all: T | None = None

    def add(self, domain: str, owner: T) -> bool:
        """List a domain; False where an earlier virtual host has it already."""
        domain = domain.lower()
        if domain == "*":
            if self.catch_all is not None:
                return False
            self.catch_all = owner
            return True
        if domain.startswith("*"):
            bucket, key = self.suffixes.setdefault(len(domain) - 1, {}), domain[1:]
        elif domain.endswith("*"):
            bucket, key = self.prefixes.setdefault(len(domain) - 1, {}), domain[:-1]
        else:
            bucket, key = self.exact, domain
        return bucket.setdefault(key, owner) is owner

    def match(self, authority: str) -> tuple[T, str] | None:
        """The virtual host for an authority and the domain that matched, None where Envoy answers 404."""
        host = authority.lower()
        if self.ignore_port:
            host = strip_port(host)
        if (found := self.exact.get(host)) is not None:
            return found, host
        for length in sorted(self.suffixes, reverse=True):
            if len(host) > length and (found := self.suffixes[length].get(host[-length:])) is not None:
                return found, "*" + host[-length:]
        for length in sorted(self.prefixes, reverse=True):
            if len(host) > length and (found := self.prefixes[length].get(host[:length])) is not None:
                return found, host[:length] + "*"
        return None if self.catch_all is None else (self.catch_all, "*")


def choose(domains: Mapping[str, Iterable[str]], authority: str, ignore_port: bool = True) -> str | None:
    """The name of the virtual host that Envoy chooses among ``domains`` (name to domain list, in order)."""
    hosts: VirtualHosts[str] = VirtualHosts(ignore_port)
    for name, listed in domains.items():
        for domain in listed:
            hosts.add(domain, name)
    found = hosts.match(authority)
    return found[0] if found else None
