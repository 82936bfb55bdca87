"""What the agent counts. Plain integers that the hot path raises; the metrics page reads them when it is asked."""

from __future__ import annotations

from bisect import bisect_left

#: Upper bounds of the histogram of times, in seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Times in seconds by bucket."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.total += seconds
        self.counts[bisect_left(BUCKETS, seconds)] += 1


class Stats:
    """Counters by name, and the time that upstream answers took."""

    def __init__(self) -> None:
        self.count = dict.fromkeys(MEANING, 0)
        self.upstream = Histogram()


#: Counter name to what it counts. ``received``, ``forwarded``, ``denied`` and ``parse_errors`` are Cilium's words.
MEANING: dict[str, str] = {
    "received": "queries of endpoints",
    "forwarded": "queries sent on",
    "denied": "queries refused by policy",
    "parse_errors": "queries that are no DNS, or not one question",
    "answered": "answers released to endpoints",
    "learned": "answers whose addresses were learned or prolonged",
    "no_endpoint": "queries from an address that is no endpoint's",
    "timeouts": "queries that no server answered in time",
    "upstream_errors": "queries whose server could not be asked",
    "bad_answers": "answers that are no DNS; the client got SERVFAIL",
    "mismatched": "datagrams from a server that answer no outstanding query",
    "semaphore_rejected": "queries refused because of dnsproxy-concurrency-limit",
    "limited": "queries refused because too many are outstanding",
    "rate_limited": "queries refused by the rate limit of an endpoint",
    "tcp_limited": "TCP connections refused or ended by a limit",
    "update_timeouts": "answers released before the kernel had them (tofqdns-proxy-response-max-delay)",
    "set_errors": "changes that nftables refused",
    "unlearned": "answers released and not learned because the endpoint has too many names or addresses",
    "unsent": "answers that could not be sent to the endpoint",
    "log_overruns": "times that the kernel logged packets faster than they were read",
    "gc_deletions": "names that the DNS GC cleaned",
    "errors": "errors of the agent itself",
}
