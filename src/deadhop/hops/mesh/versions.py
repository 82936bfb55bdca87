"""What differs between Envoy releases 1.26 to 1.40 in a sidecar's answers, as one table of boundaries.

A boundary is the first release that has the newer behaviour. Boundaries between 1.36 and 1.40 were observed on
the real binaries (see docs/lab_notes/mesh.md); older ones follow the change logs, and two of them are only
known to about one minor release (``approximate``).
"""

from __future__ import annotations

import re

import msgspec

Version = tuple[int, int, int]
NEWEST: Version = (1, 40, 0)
OLDEST: Version = (1, 26, 0)


class Boundary(msgspec.Struct, frozen=True):
    """One behaviour that changed: the first release with the newer form, and where that is written."""

    since: Version
    what: str
    reference: str
    approximate: bool = False


BOUNDARIES: dict[str, Boundary] = {
    "local_and_remote_failure": Boundary(
        (1, 27, 0), "connection failure is split into local and remote", "envoy PR #26750"
    ),
    "tls_error_markers": Boundary(
        (1, 28, 0), "TLS errors are written TLS_error:|...:TLS_error_end", "envoy ssl_socket.cc", True
    ),
    "details_bar": Boundary(
        (1, 30, 0), "details join reason and cause with | instead of ,", "router.cc", True
    ),
    "errno_text": Boundary(
        (1, 31, 0), "a delayed connect error is spelled out instead of its number", "connection_impl.cc", True
    ),
    "verify_details": Boundary(
        (1, 37, 0), "a certificate error says which verification failed", "cert_validator, observed"
    ),
    "hide_transport_reason": Boundary(
        (1, 38, 1), "the transport failure reason is no longer in the body", "envoy PR #44746"
    ),
    "tcp_reset_forwarded": Boundary(
        (1, 38, 0), "a TCP proxy passes an upstream reset on as a reset, with flag UR", "observed"
    ),
    "seen_sans": Boundary(
        (1, 38, 0), "a SAN mismatch lists the names seen", "default_validator.cc, observed in 1.38.3"
    ),
}


def parse_version(text: str) -> Version:
    """``1.38.3``, ``v1.38`` or ``1.38.3-dev`` as a triple; the newest known release where nothing can be read."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not found:
        return NEWEST
    return int(found[1]), int(found[2]), int(found[3] or 0)


def envoy_of_istio(text: str) -> Version | None:
    """The Envoy that an Istio release carries: by convention Istio 1.N has Envoy 1.(N+8)."""
    found = re.search(r"\b1\.(\d+)(?:\.\d+)?", text)
    return (1, int(found[1]) + 8, 0) if found else None


def has(version: Version, behaviour: str) -> bool:
    """Does this release have the newer form of a :data:`BOUNDARIES` behaviour?"""
    return version >= BOUNDARIES[behaviour].since
