"""The limits of a proxy's circuit breakers, as objects of any mesh or gateway set them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.model.observed.kube import KubeObject

#: Where such limits stand: Istio's DestinationRule, Envoy Gateway's BackendTrafficPolicy, Kuma's MeshCircuitBreaker,
#: Consul's ServiceDefaults, Emissary's Mapping, and clusters of Envoy itself (CiliumEnvoyConfig, EnvoyFilter).
_BLOCKS = frozenset(
    "connectionPool circuitBreaker connectionLimits limits circuit_breakers circuitBreakers thresholds".split()
)
#: What of it bounds requests and connections; retries and timeouts do not.
_BOUNDS = frozenset(
    """maxConnections http1MaxPendingRequests http2MaxRequests maxPendingRequests maxParallelRequests maxRequests
    maxConcurrentRequests max_connections max_pending_requests max_requests""".split()
)
#: Contour writes them on the Service (projectcontour.io, annotations).
_CONTOUR = tuple(
    f"projectcontour.io/{name}" for name in ("max-connections", "max-pending-requests", "max-requests")
)


def breaker_limits(thing: KubeObject) -> list[int]:
    """The bounds that an object sets; empty where it sets none."""
    found = [*_bounds(thing.raw.get("spec"), inside=False)]
    return found + [n for key in _CONTOUR if (n := _number(thing.annotations.get(key))) is not None]


def _bounds(value: Any, inside: bool, depth: int = 0) -> Iterator[int]:
    if depth > 12:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            number = _number(item) if inside and key in _BOUNDS else None
            if number is not None:
                yield number
            else:
                yield from _bounds(item, inside or key in _BLOCKS, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _bounds(item, inside, depth + 1)


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    return value if isinstance(value, int) else int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 12 else None  # fmt: skip
