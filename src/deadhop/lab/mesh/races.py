"""Endings that a proxy owes to the kernel's timing: either is right, and each is accepted for one reason only.

What is compared are the fields of ``verify.expected``; a race turns what was observed into what was expected where
both are ways in which the same thing ends.
"""

from __future__ import annotations

from typing import Any

from deadhop.model.mesh import MeshOutcome

Fields = dict[str, Any]
_RESET = "|TLS_error:|33554536:system_library:OPENSSL_internal:Connection_reset_by_peer:TLS_error_end"
_CUT = frozenset(("closed", "reset"))
_SILENT: Fields = {"flags": [], "details": None}


def settled(wanted: Fields, got: Fields, outcome: MeshOutcome) -> bool:
    """Is what was observed what was expected, or its twin in one of the races?"""
    for race in RACES:
        if got == wanted:
            break
        got = race(wanted, got, outcome)
    return got == wanted


def _end_or_reset(wanted: Fields, got: Fields, _: MeshOutcome) -> Fields:
    """The upstream goes away in the handshake: Envoy reads the end of the stream, or the reset behind it."""
    client = got["client"]
    if client and wanted["client"] and client["details"] and _RESET in client["details"]:
        return {**got, "client": {**client, "details": client["details"].replace(_RESET, "")}}
    return got


def _bytes_or_none(wanted: Fields, got: Fields, _: MeshOutcome) -> Fields:
    """An application closes upon bytes that it does not know, with or without a word."""
    if wanted["ending"] == "response" and wanted["status"] is None and got["ending"] == "closed":
        return {**got, "ending": "response"}
    return got


def _tcp(outcome: MeshOutcome) -> bool:
    return outcome.client_log is None or outcome.client_log.details is None


def _judged_or_refused(wanted: Fields, got: Fields, outcome: MeshOutcome) -> Fields:
    """The sidecar refuses the caller while its application does not listen: either is met first."""
    server = outcome.server_log
    if server is None or "UF" not in server.flags or not _tcp(outcome) or not got["server"]:
        return got
    if not {wanted["ending"], got["ending"]} <= _CUT:
        return got
    got = {**got, "ending": wanted["ending"]}
    if got["server"] == _SILENT:
        got = {**got, "server": wanted["server"]}
    both = (got["client"], wanted["client"])
    if all(both) and all(line["flags"] in ([], ["UR"]) for line in both):
        got = {**got, "client": wanted["client"]}
    return got


def _read_or_not(wanted: Fields, got: Fields, outcome: MeshOutcome) -> Fields:
    """The upstream ends the TLS handshake: the proxy closes before or after it has read the application's request."""
    server = outcome.server_log
    if outcome.client_log is None or server is None or "UF" in server.flags or outcome.mtls is True:
        return got
    if (
        not _tcp(outcome)
        or not {wanted["ending"], got["ending"]} <= _CUT
        or not got["server"]
        or not got["client"]
    ):
        return got
    return {**got, "ending": wanted["ending"]}


def _greeting_or_denial(wanted: Fields, got: Fields, outcome: MeshOutcome) -> Fields:
    """An application greets while the sidecar denies the caller, which speaks HTTP: the greeting passes, or does not."""
    denied = any(s.ok is False and s.function == "envoy.filters.http.rbac" for s in outcome.steps)
    if (
        not denied
        or wanted["status"] != 502
        or got["status"] != 503
        or not got["client"]
        or not wanted["client"]
    ):
        return got
    client = got["client"]
    told = {
        "flags": sorted("UPE" if f == "UC" else f for f in client["flags"]),
        "details": (client["details"] or "").replace("connection_termination", "protocol_error"),
    }
    body = str(got.get("body", "")).replace("connection termination", "protocol error")
    return {**got, "status": 502, "client": {**client, **told}, **({"body": body} if "body" in got else {})}


def _alert(wanted: Fields, got: Fields, outcome: MeshOutcome) -> Fields:
    """The client's TLS alert meets a socket that the application has closed: the server's sidecar sees the end of the
    stream first, or the reset that answers the alert."""
    client = outcome.client_log
    if client is None or "UF" not in client.flags or wanted["server"] != _SILENT:
        return got
    if got["server"] == {"flags": ["UR"], "details": None}:
        return {**got, "server": wanted["server"]}
    return got


def _handshake_or_dial(wanted: Fields, got: Fields, outcome: MeshOutcome) -> Fields:
    """The handshake fails on a TCP chain whose application does not listen: the connection ends before the proxy's dial
    is refused, or after."""
    server = outcome.server_log
    failed = any(
        s.ok is False and (s.function == "SSL handshake" or s.decided_by.startswith("mTLS handshake"))
        for s in outcome.steps
    )
    if (
        failed
        and server is not None
        and "UF" in server.flags
        and server.details is None
        and got["server"] == _SILENT
    ):
        return {**got, "server": wanted["server"]}
    return got


RACES = (
    _end_or_reset,
    _bytes_or_none,
    _judged_or_refused,
    _read_or_not,
    _greeting_or_denial,
    _alert,
    _handshake_or_dial,
)
