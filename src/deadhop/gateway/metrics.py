"""What the gateway counts, and the admin listener: ``/metrics``, ``/healthz``, ``/readyz`` in a thread of their own.

The hot path raises plain integers; the page reads them when it is asked. No label is a path, a name or an address of a
client: only routes, upstreams, status classes and words of the tables here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deadhop.gateway.server import Gateway

PREFIX = "deadhop_gateway"
#: Upper bounds of the histogram of request times, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Counts:
    """Plain numbers by route, class and reason."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.ended: Counter[str] = Counter()
        self.times: dict[str, list[int]] = {}
        self.seconds: Counter[str] = Counter()
        self.received = self.sent = self.retries = 0

    def add(self, route: str, status: int, result: str, seconds: float) -> None:
        self.requests[route, f"{status // 100}xx"] += 1
        if result != "ok":
            self.ended[result] += 1
        if route not in self.times:
            self.times[route] = [0] * (len(BUCKETS) + 1)
        self.times[route][bisect_left(BUCKETS, seconds)] += 1
        self.seconds[route] += seconds  # type: ignore[assignment]


class Collector:
    """The protocol of ``prometheus_client``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        gateway, counts = self._gateway, self._gateway.counts
        requests = CounterMetricFamily(
            f"{PREFIX}_requests", "requests by route and status", labels=["route", "status"]
        )
        for (route, status), number in list(counts.requests.items()):
            requests.add_metric([route, status], number)
        yield requests
        ended = CounterMetricFamily(
            f"{PREFIX}_requests_failed", "requests that ended otherwise than by a response", labels=["reason"]
        )
        for reason, number in list(counts.ended.items()):
            ended.add_metric([reason], number)
        yield ended
        times = HistogramMetricFamily(f"{PREFIX}_request_seconds", "time of a request", labels=["route"])
        for route, numbers in list(counts.times.items()):
            total, buckets = 0, []
            for bound, number in zip([*map(str, BUCKETS), "+Inf"], numbers, strict=True):
                total += number
                buckets.append((bound, total))
            times.add_metric([route], buckets, counts.seconds[route])
        yield times
        upstream = CounterMetricFamily(
            f"{PREFIX}_upstream_connections",
            "connections taken for requests",
            labels=["upstream", "kind"],
        )
        for pool in gateway.pools.values():
            upstream.add_metric([pool.name, "new"], pool.connects)
            upstream.add_metric([pool.name, "reused"], pool.reuses)
        yield upstream
        plain = {
            "retries": ("requests sent a second time, on a connection of their own", counts.retries),
            "received_bytes": ("octets of request bodies", counts.received),
            "sent_bytes": ("octets of response bodies", counts.sent),
            "log_lines_lost": ("access log lines that could not be written", gateway.log.lost),
        }
        for name, (meaning, value) in plain.items():
            yield CounterMetricFamily(f"{PREFIX}_{name}", meaning, value=value)
        yield GaugeMetricFamily(f"{PREFIX}_connections", "clients' connections", value=len(gateway.clients))
        yield GaugeMetricFamily(f"{PREFIX}_active", "requests being served", value=gateway.active)


def serve(gateway: Gateway, host: str, port: int) -> ThreadingHTTPServer:
    """The admin listener. Raises :class:`OSError`."""
    from prometheus_client import CollectorRegistry, exposition

    registry = CollectorRegistry()
    registry.register(Collector(gateway))
    pages: dict[str, Callable[[], tuple[int, bytes, str]]] = {
        "/metrics": lambda: (200, exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST),
        "/healthz": lambda: (200, b"ok\n", "text/plain"),
        "/readyz": lambda: (
            (503, b"draining\n", "text/plain") if gateway.draining else (200, b"ok\n", "text/plain")
        ),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            page = pages.get(self.path)
            status, body, kind = (
                page() if page else (404, b"there are /metrics, /healthz and /readyz\n", "text/plain")
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are not worth a line."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="admin", daemon=True).start()
    return server
