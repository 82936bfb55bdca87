"""The answers that Envoy makes itself when an upstream fails: status, body, flags and details by release.

Reference: envoy ``source/common/router/router.cc`` (``onUpstreamReset``, ``streamResetReasonToResponseFlag``) and
``source/common/http/utility.cc`` (``resetReasonToString``).
"""

from __future__ import annotations

import msgspec

from deadhop.hops.mesh.versions import Version, has
from deadhop.model.envoy_flags import RESET_BODY, RESET_STATUS

CONNECT_REFUSED = "delayed connect error: Connection refused"
WRONG_VERSION = "268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER"
PEER_RESET = "33554536:system library:OPENSSL_internal:Connection reset by peer"
VERIFY_FAILED = "268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"

REASON_FLAGS = {
    "remote connection failure": "UF",
    "connection timeout": "UF",
    "connection termination": "UC",
    "overflow": "UO",
    "protocol error": "UPE",
    "remote reset": "UR",
}


VERIFY_ROOT = (
    "verify cert failed: X509_verify_cert: certificate verification error at depth 0: "
    "unable to get local issuer certificate"
)


def verify_san(version: Version, seen: str) -> str:
    """The verifier's message where the server's name is not among those accepted."""
    tail = f", certificate SANs are [{seen}]" if has(version, "seen_sans") else ""
    return f"verify cert failed: SAN matcher{tail}"


class Reply(msgspec.Struct, frozen=True):
    """A local reply and its access-log fields."""

    status: int
    body: str
    flags: frozenset[str]
    details: str


def reason_text(version: Version, reason: str) -> str:
    """The reset reason as this release spells it."""
    if not has(version, "local_and_remote_failure") and reason in (
        "remote connection failure",
        "connection timeout",
    ):
        return "connection failure"
    return reason


def tls_cause(version: Version, error: str, verify: str = "") -> str:
    """A TLS failure as this release's transport failure reason; ``verify`` is the verifier's own message."""
    tail = f":{verify}" if verify and has(version, "verify_details") else ""
    if has(version, "tls_error_markers"):
        return f"TLS_error:|{error}{tail}:TLS_error_end"
    return f"TLS error: {error}"


def connect_cause(version: Version) -> str:
    """A refused connection as this release's transport failure reason."""
    return CONNECT_REFUSED if has(version, "errno_text") else "delayed connect error: 111"


def reset_details(version: Version, reason: str, cause: str) -> str:
    """``upstream_reset_before_response_started{reason|cause}``, blanks as underscores."""
    separator = "|" if has(version, "details_bar") else ","
    inner = reason_text(version, reason) + (separator + cause if cause else "")
    return "upstream_reset_before_response_started{" + inner.replace(" ", "_") + "}"


def reset_reply(version: Version, reason: str, cause: str = "", retried: bool = False) -> Reply:
    """The router's answer to an upstream reset before headers."""
    body = (
        RESET_BODY
        + ("retried and the latest " if retried else "")
        + f"reset reason: {reason_text(version, reason)}"
    )
    if cause and not has(version, "hide_transport_reason"):
        body += f", transport failure reason: {cause}"
    flags = {REASON_FLAGS[reason]} | ({"URX"} if retried else set())
    return Reply(RESET_STATUS.get(reason, 503), body, frozenset(flags), reset_details(version, reason, cause))


def retries_reset(reason: str, on: frozenset[str], request_started: bool) -> bool:
    """Would the router retry after this reset? (``RetryStateImpl::wouldRetryFromReset``)"""
    if reason == "overflow":
        return False
    if on & {"5xx", "gateway-error", "reset"}:
        return True
    if "reset-before-request" in on and not request_started:
        return True
    return "connect-failure" in on and reason in ("remote connection failure", "connection timeout")


def retries_response(status: int, on: frozenset[str]) -> bool:
    """Would the router retry after this response? Numbers in the list are retriable status codes."""
    if "5xx" in on and 500 <= status < 600:
        return True
    if "gateway-error" in on and status in (502, 503, 504):
        return True
    return str(status) in on or ("retriable-4xx" in on and status == 409)
