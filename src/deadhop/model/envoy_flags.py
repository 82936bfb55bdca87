"""Envoy's response flags, reset reasons and local replies, as tables by version.

Sources: envoy ``source/common/stream_info/utility.h`` (flags), ``source/common/http/utility.cc``
(``Utility::resetReasonToString``), ``source/common/router/router.cc`` (the body of a reset before headers).
"""

from __future__ import annotations

import msgspec


class Flag(msgspec.Struct, frozen=True):
    """One access-log response flag: its short and long form, and what it means for the connection."""

    short: str
    long: str
    meaning: str


FLAGS: dict[str, Flag] = {
    f.short: f
    for f in (
        Flag("UH", "NoHealthyUpstream", "the cluster had no host to choose"),
        Flag("UF", "UpstreamConnectionFailure", "TCP connect or TLS handshake with the upstream failed"),
        Flag("UC", "UpstreamConnectionTermination", "the upstream closed the connection before it answered"),
        Flag("UO", "UpstreamOverflow", "a circuit breaker refused the request"),
        Flag("UT", "UpstreamRequestTimeout", "no answer within the route's timeout"),
        Flag("UR", "UpstreamRemoteReset", "the upstream reset the stream, or since 1.38 the TCP connection"),
        Flag("URX", "UpstreamRetryLimitExceeded", "retries or connect attempts were used up"),
        Flag("UPE", "UpstreamProtocolError", "the upstream did not speak the expected HTTP version"),
        Flag("UMSDR", "UpstreamMaxStreamDurationReached", "the upstream stream lasted too long"),
        Flag("NR", "NoRouteFound", "no virtual host, route or filter chain matched"),
        Flag("NC", "NoClusterFound", "the route names a cluster that does not exist"),
        Flag("NFCF", "NoFilterConfigFound", "a filter's discovered configuration is missing"),
        Flag("DC", "DownstreamConnectionTermination", "the caller hung up"),
        Flag("DPE", "DownstreamProtocolError", "the caller sent bytes that are not valid HTTP"),
        Flag("DR", "DownstreamRemoteReset", "the caller reset the stream"),
        Flag("DT", "DurationTimeout", "the connection lasted longer than allowed"),
        Flag("SI", "StreamIdleTimeout", "the stream was idle too long"),
        Flag("LR", "LocalReset", "this proxy reset the stream"),
        Flag("LH", "FailedLocalHealthCheck", "the local health check failed"),
        Flag("IH", "InvalidEnvoyRequestHeaders", "a strictly checked header was invalid"),
        Flag("DI", "DelayInjected", "a fault filter delayed the request"),
        Flag("FI", "FaultInjected", "a fault filter aborted the request"),
        Flag("RL", "RateLimited", "a rate limit refused the request"),
        Flag("RLSE", "RateLimitServiceError", "the rate limit service failed"),
        Flag("UAEX", "UnauthorizedExternalService", "external authorization refused the request"),
        Flag("RFCF", "ResponseFromCacheFilter", "a cache answered"),
        Flag("OM", "OverloadManagerTerminated", "the overload manager ended the request"),
        Flag("DF", "DnsResolutionFailed", "the upstream's name did not resolve"),
        Flag("DO", "DropOverload", "the load report asked to drop the request"),
    )
}

RESET_BODY = "upstream connect error or disconnect/reset before headers. "
"""First sentence of every body that the router makes for a reset before headers (router.cc)."""

RESET_STATUS: dict[str, int] = {"protocol error": 502}
"""Status by reset reason where it is not 503 (router.cc: ``protocol error`` is a bad gateway)."""

NO_HEALTHY_UPSTREAM = "no healthy upstream"
REQUEST_TIMEOUT = "upstream request timeout"
RBAC_DENIED = "RBAC: access denied"
UPGRADE_REQUIRED = "Upgrade Required"
FAULT_ABORT = "fault filter abort"
JWT_MISSING = "Jwt is missing"
