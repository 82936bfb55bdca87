"""Envoy's choice of a filter chain: one criterion after the other, each time the most specific value, never going back.

Reference: envoy ``source/common/listener_manager/filter_chain_manager_impl.cc`` (``findFilterChain`` and the functions
that it calls, in the order of the tables here) and ``listener_components.proto`` (``FilterChainMatch``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import within
from deadhop.model.proto_json import get, message, messages, number, string, strings

Chain = Mapping[str, Any]


class Bytes(msgspec.Struct, frozen=True):
    """What the listener filters found out about a connection. ``protocol`` is ``tls`` or ``raw_buffer``."""

    ip: str
    port: int
    source: str
    protocol: str
    alpn: tuple[str, ...] = ()
    sni: str = ""


def named(chain: Chain) -> str:
    """The chain's name, or a stand-in."""
    return string(chain, "name") or "(unnamed chain)"


def find_chain(listener: Mapping[str, Any], seen: Bytes) -> Chain | None:
    """The chain for a connection, None where Envoy closes it (``filter_chain_not_found``).

    Raises :class:`LookupError` where the listener matches by a ``filter_chain_matcher``, which is not modelled.
    """
    if get(listener, "filter_chain_matcher"):
        raise LookupError("filter_chain_matcher")
    default = message(listener, "default_filter_chain") or None
    chains = [(c, message(c, "filter_chain_match")) for c in messages(listener, "filter_chains")]
    left = [c for c in chains if number(c[1], "destination_port") == seen.port]
    left = left or [c for c in chains if number(c[1], "destination_port") is None]
    left = _narrowest(left, seen.ip, "prefix_ranges")
    left = _server_name(left, seen.sni.lower())
    left = _one_of(left, "transport_protocol", (seen.protocol,))
    left = _one_of(left, "application_protocols", seen.alpn)
    left = _narrowest(left, seen.source, "direct_source_prefix_ranges")
    left = _source_type(left, seen)
    left = _narrowest(left, seen.source, "source_prefix_ranges")
    left = [c for c in left if not get(c[1], "source_ports")] or left
    return left[0][0] if left else default


_Pairs = list[tuple[dict[str, Any], dict[str, Any]]]


def _one_of(left: _Pairs, field: str, values: Iterable[str]) -> _Pairs:
    """The chains with the first of these values that any has, else those that do not ask."""

    def asked(match: dict[str, Any]) -> tuple[str, ...]:
        return strings(match, field) or ((text,) if (text := string(match, field)) else ())

    for value in values:
        if found := [c for c in left if value in asked(c[1])]:
            return found
    return [c for c in left if not asked(c[1])]


def _server_name(left: _Pairs, name: str) -> _Pairs:
    """Exact server name, then ``*.example.com`` by falling length, then chains that do not ask."""
    candidates = [name, *(f"*{name[i:]}" for i in range(1, len(name)) if name[i] == ".")] if name else []
    for candidate in candidates:
        if found := [c for c in left if candidate in (s.lower() for s in strings(c[1], "server_names"))]:
            return found
    return [c for c in left if not set(strings(c[1], "server_names")) - {"*"}]


def _narrowest(left: _Pairs, ip: str, field: str) -> _Pairs:
    """The chains whose longest range holds the address, else those without ranges."""
    best: _Pairs = []
    length = -1
    for chain in left:
        for block in messages(chain[1], field):
            size = number(block, "prefix_len") or 0
            if size < length or not _inside(ip, string(block, "address_prefix"), size):
                continue
            best = (
                [*best, chain] if size == length and chain not in best else [chain] if size > length else best
            )
            length = size
    return best or [c for c in left if not get(c[1], field)]


def _inside(ip: str, prefix: str, size: int) -> bool:
    try:
        return within(ip, (ipaddress.ip_network(f"{prefix}/{size}", strict=False),))
    except ValueError:
        return False


def _source_type(left: _Pairs, seen: Bytes) -> _Pairs:
    local = seen.source == seen.ip or seen.source.startswith("127.") or seen.source == "::1"
    wanted = ("SAME_IP_OR_LOOPBACK",) if local else ("EXTERNAL",)
    asking = [c for c in left if string(c[1], "source_type") in wanted]
    return asking or [c for c in left if string(c[1], "source_type") in ("", "ANY")]


def inspects(listener: Mapping[str, Any], what: str, port: int) -> bool:
    """Does the listener run the ``tls_inspector`` or ``http_inspector`` for this destination port?"""
    for item in messages(listener, "listener_filters"):
        if string(item, "name").endswith(what) or string(item, "typed_config", "@type").lower().endswith(
            what.replace("_", "")
        ):
            return not _disabled(message(item, "filter_disabled"), port)
    return False


def _disabled(rule: Mapping[str, Any], port: int, depth: int = 0) -> bool:
    """A ListenerFilterChainMatchPredicate over destination ports."""
    if not rule or depth > 8:
        return False
    if ranges := message(rule, "destination_port_range"):
        return (number(ranges, "start") or 0) <= port < (number(ranges, "end") or 0)
    if either := message(rule, "or_match"):
        return any(_disabled(r, port, depth + 1) for r in messages(either, "rules"))
    if both := message(rule, "and_match"):
        return all(_disabled(r, port, depth + 1) for r in messages(both, "rules"))
    if inner := message(rule, "not_match"):
        return not _disabled(inner, port, depth + 1)
    return get(rule, "any_match") is True
