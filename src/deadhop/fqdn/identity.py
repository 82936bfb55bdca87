"""``NameManager``: from names and selectors to the labels and identity of an address (``pkg/fqdn/namemanager``).

Every address of a name that a selector matches carries the label ``fqdn:<selector>``; several names on one address
carry the union. Each distinct set of labels is one identity of the node (1.16 and later); a selector allows all
identities that carry its label. So policy judges an address, never a name: two names on one address are reachable
together. Up to 1.15 each address has a CIDR identity of its own and selectors list addresses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network

import msgspec

from deadhop.fqdn.cache import DNSCache, UpdateStatus
from deadhop.fqdn.options import V1_16, Version
from deadhop.fqdn.patterns import PatternError
from deadhop.fqdn.selectors import FQDNSelector, SelectorIndex

FIRST_LOCAL_IDENTITY = 1 << 24 | 1
SOURCE_PRECEDENCE = (
    "kube-apiserver",
    "local",
    "kvstore",
    "custom-resource",
    "k8s",
    "clustermesh",
    "directory",
    "api",
    "generated",
    "restored",
)
"""Which source of an address's identity wins, strongest first; FQDN labels are ``generated``."""


def world_label(ip: str, *, dual_stack: bool) -> str:
    """The reserved label of an address outside the cluster."""
    if not dual_stack:
        return "reserved:world"
    return "reserved:world-ipv6" if ":" in ip else "reserved:world-ipv4"


def preallocated_label_sets(selector: FQDNSelector, *, ipv4: bool, ipv6: bool) -> list[frozenset[str]]:
    """The label sets whose identities are allocated ahead of the first response (1.18+)."""
    if ipv4 and ipv6:
        worlds = ["reserved:world-ipv4", "reserved:world-ipv6"]
    else:
        worlds = ["reserved:world"] if ipv4 or ipv6 else []
    return [frozenset({selector.label, world}) for world in worlds]


def prefix_of(ip: str) -> str:
    """The single-address prefix under which ipcache files an address."""
    return f"{ip}/{ip_address(ip).max_prefixlen}"


def name_lock(name: str, count: int) -> int:
    """The lock of a lower-case name: FNV-1 (32 bit) modulo ``dnsproxy-lock-count``."""
    hashed = 0x811C9DC5
    for byte in name.encode():
        hashed = hashed * 0x01000193 & 0xFFFFFFFF ^ byte
    return hashed % count


class Learned(msgspec.Struct, frozen=True):
    """What one response did to the global cache. ``waits``: the reply is held until the datapath has it."""

    status: UpdateStatus
    waits: bool


class NameManager:
    """The node's names: global cache, registered selectors and the labels of each address."""

    def __init__(
        self,
        version: Version,
        *,
        min_ttl: int = 0,
        dual_stack: bool = False,
        policy_cidrs: Sequence[str] = (),
    ) -> None:
        self.version = version
        self.dual_stack = dual_stack
        self.cache = DNSCache(min_ttl, tracked=False)
        self.index = SelectorIndex(version)
        self.policy_cidrs = tuple(ip_network(cidr, strict=False) for cidr in policy_cidrs)
        self.bootstrapped = True
        self.recent: list[DNSCache] = []
        self._metadata: dict[str, dict[str, frozenset[str]]] = {}
        self._identities: dict[frozenset[str], int] = {}
        self._label_sets: dict[frozenset[str], frozenset[str]] = {}
        self._users: dict[FQDNSelector, int] = {}

    def register(self, selector: FQDNSelector) -> None:
        """A policy uses the selector; the first user makes names already in the cache count."""
        self._users[selector] = self._users.get(selector, 0) + 1
        if self._users[selector] == 1 and self.index.add(selector):
            self._relabel_matching(selector)

    def unregister(self, selector: FQDNSelector) -> None:
        """A policy stops using the selector; the last user takes its label off all addresses."""
        users = self._users.get(selector, 0)
        if users > 1:
            self._users[selector] = users - 1
            return
        self._users.pop(selector, None)
        self.index.remove(selector)
        self._relabel_matching(selector)

    def _relabel_matching(self, selector: FQDNSelector) -> None:
        """Label the names in the cache that a selector matches by the selectors there are now."""
        try:
            pattern = selector.compile(self.version)
        except PatternError:
            return
        for name, pairs in self.cache.forward.items():
            if pattern.matches(name):
                self._relabel(name, pairs)

    def relabel_all(self) -> None:
        """Label every address of the global cache anew."""
        for name, pairs in self.cache.forward.items():
            self._relabel(name, pairs)

    def _relabel(self, name: str, ips: Iterable[str]) -> bool:
        labels = self.index.labels(name)
        labels = self._label_sets.setdefault(labels, labels)  # many names, few sets
        for ip in ips:
            if labels:
                self._metadata.setdefault(ip, {})[name] = labels
            else:
                self._forget(name, ip)
        return bool(labels)

    def _forget(self, name: str, ip: str) -> None:
        by_name = self._metadata.get(ip, {})
        by_name.pop(name, None)
        if not by_name:
            self._metadata.pop(ip, None)

    def update(
        self,
        lookup_time: float,
        name: str,
        ips: Sequence[str],
        ttl: int,
        endpoint_cache: DNSCache | None = None,
    ) -> Learned:
        """One learned response (``UpdateGenerateDNS``), after the endpoint's own cache took it.

        News is a new address of the name, in every version (``updateIPsForName``); a later expiry is none.
        """
        status = self.cache.update(lookup_time, name, ips, ttl)
        if endpoint_cache is not None and all(cache is not endpoint_cache for cache in self.recent):
            self.recent.append(endpoint_cache)
        waits = (status.upserted or not self.bootstrapped) and self._relabel(name, ips)
        return Learned(status, waits)

    def drop_stale(self, pairs: Collection[tuple[str, str]]) -> None:
        """Take the labels off (name, ip) pairs that the global cache holds no longer."""
        for name, ip in pairs:
            if ip not in self.cache.forward.get(name, {}):
                self._forget(name, ip)

    def labels_of(self, ip: str) -> frozenset[str] | None:
        """The labels of an address in ipcache, None where names put none there."""
        by_name = self._metadata.get(ip)
        if not by_name:
            return None
        if self.version < V1_16:
            return frozenset({f"cidr:{prefix_of(ip)}", world_label(ip, dual_stack=self.dual_stack)})
        address = ip_address(ip)
        cidrs = {f"cidr:{n}" for n in self.policy_cidrs if n.version == address.version and address in n}
        names = frozenset().union(*by_name.values())
        return names | cidrs | {world_label(ip, dual_stack=self.dual_stack)}

    def labels_by_name(self, ip: str) -> Mapping[str, frozenset[str]]:
        """The names that have labelled an address, each with its labels."""
        return self._metadata.get(ip, {})

    def labelled(self) -> Mapping[str, Mapping[str, frozenset[str]]]:
        """Every address that names have labelled, with those names and the labels of each."""
        return self._metadata

    def ipcache(self) -> dict[str, frozenset[str]]:
        """Prefix to labels, for every address that names have labelled."""
        return {prefix_of(ip): labels for ip in self._metadata if (labels := self.labels_of(ip)) is not None}

    def identity_of(self, ip: str) -> int | None:
        """The local identity of an address: one number for each distinct set of labels."""
        labels = self.labels_of(ip)
        if labels is None:
            return None
        return self._identities.setdefault(labels, FIRST_LOCAL_IDENTITY + len(self._identities))

    def names_behind(self, ip: str, selector: FQDNSelector) -> list[str]:
        """The names through which ``selector`` covers an address, sorted."""
        by_name = self._metadata.get(ip, {})
        return sorted(name for name, labels in by_name.items() if selector.label in labels)

    def allows(self, ip: str, selectors: Iterable[FQDNSelector]) -> FQDNSelector | None:
        """The first of ``selectors`` that covers an address, None where none does."""
        by_name = self._metadata.get(ip)
        if not by_name:
            return None
        carried = frozenset().union(*by_name.values())
        return next((selector for selector in selectors if selector.label in carried), None)
