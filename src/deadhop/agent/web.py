"""Metrics and health on loopback, in a thread of their own. No label is a name or an address."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from deadhop.agent.nft import NftError, open_nft
from deadhop.agent.ruleset import DROPS, TABLE
from deadhop.agent.stats import BUCKETS, MEANING

if TYPE_CHECKING:
    from deadhop.agent.agent import Agent

PREFIX = "deadhop_fqdn"
STALLED = 15.0
"""Seconds without a turn of the loop after which the agent is not healthy."""


class Collector:
    """Reads the agent's counters when somebody asks (the protocol of ``prometheus_client``)."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._nft = open_nft()
        self._lock = Lock()

    def drops(self) -> dict[str, tuple[int, int]]:
        """Packets and octets that the rules dropped, by reason; empty where the rules are gone."""
        with self._lock:
            try:
                found = self._nft.query(f"list counters table inet {TABLE}")
            except NftError:
                return {}
        counters = [item["counter"] for item in found if "counter" in item]
        return {c["name"]: (c["packets"], c["bytes"]) for c in counters if c["name"] in DROPS}

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        agent = self._agent
        count = agent.stats.count
        for name, meaning in MEANING.items():
            yield CounterMetricFamily(f"{PREFIX}_{name}", meaning, value=count[name])
        drops = CounterMetricFamily(
            f"{PREFIX}_dropped_packets", "packets dropped by the rules", labels=["reason"]
        )
        for reason, (packets, _) in self.drops().items():
            drops.add_metric([reason], packets)
        yield drops
        gauges = {
            "active_names": ("names in the node's cache", len(agent.core.node.names.cache.forward)),
            "alive_zombie_connections": (
                "addresses held by connections only",
                sum(len(e.zombies) for e in agent.core.node.endpoints.values()),
            ),
            "selectors": ("toFQDNs selectors", len(agent.core.node.names.index)),
            "endpoints": ("endpoints of this node", sum(e.local for e in agent.core.endpoints)),
            "set_elements": ("elements in the kernel's sets", agent.core.sets.elements),
            "outstanding": ("queries waiting for an answer", agent.proxy.outstanding),
            "tcp_connections": ("DNS connections of endpoints", len(agent.tcp.sessions)),
        }
        for name, (meaning, value) in gauges.items():
            yield GaugeMetricFamily(f"{PREFIX}_{name}", meaning, value=value)
        times = agent.stats.upstream
        total, buckets = 0, []
        for bound, number in zip([*map(str, BUCKETS), "+Inf"], times.counts, strict=True):
            total += number
            buckets.append((bound, total))
        yield HistogramMetricFamily(
            f"{PREFIX}_upstream_seconds",
            "time to the server's answer",
            buckets=buckets,
            sum_value=times.total,
        )
        yield CounterMetricFamily(
            f"{PREFIX}_set_transactions", "nftables transactions", agent.worker.transactions
        )
        yield CounterMetricFamily(
            f"{PREFIX}_set_seconds", "time in nftables transactions", agent.worker.seconds
        )


def serve(agent: Agent, port: int, complain: Callable[[str], None]) -> ThreadingHTTPServer | None:
    """Answer ``/metrics`` and ``/healthz`` on 127.0.0.1. None, with a complaint, where the port is taken."""
    from prometheus_client import CollectorRegistry, exposition

    registry = CollectorRegistry()
    registry.register(Collector(agent))

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._send(200, exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST)
            elif self.path in ("/healthz", "/readyz"):
                problem = _health(agent)
                self._send(503 if problem else 200, (problem or "ok").encode() + b"\n", "text/plain")
            else:
                self._send(404, b"there are /metrics and /healthz\n", "text/plain")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are not worth a line."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        complain(f"no metrics: 127.0.0.1:{port}: {error.strerror}")
        return None
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _health(agent: Agent) -> str:
    """What is wrong, empty where nothing is."""
    if time.monotonic() - agent.beat > STALLED:
        return "the loop does not turn"
    if agent.journal.failed:
        return f"the journal cannot be written: {agent.journal.failed}"
    return agent.trouble
