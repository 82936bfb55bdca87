"""One node with two pods, a DNS server that the test itself plays, and a real agent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from deadhop.lab.scenarios._fqdn import DNS, AgentProcess, Cluster, allow_names, missing
from deadhop.lab.topology.made import Lab
from deadhop.model.dns import RR, Message
from deadhop.wire.build import write_message
from deadhop.wire.dns import read_message
from deadhop.wire.framing import Framer, frame

IP, OTHER, NAME = "203.0.113.10", "203.0.113.99", "echo.k8s.intra."
Handler = Callable[[bytes], list[bytes]]
"""Gets a query, gives the datagrams or frames to send back."""


def reply(query: bytes, *records: RR, rcode: int = 0, **more: tuple[RR, ...]) -> bytes:
    """A whole answer to a query."""
    asked = read_message(query)
    message = Message(
        id=asked.id,
        response=True,
        recursion_available=True,
        rcode=rcode,
        questions=asked.questions,
        answers=records,
        **more,  # type: ignore[arg-type]
    )
    return write_message(message)


def a_record(query: bytes, ip: str = IP, ttl: int = 30) -> RR:
    return RR(read_message(query).questions[0].name, ttl, "AAAA" if ":" in ip else "A", ip)


def honest(query: bytes) -> list[bytes]:
    return [reply(query, a_record(query))]


class PlayedServer:
    """A DNS server at ``ip`` whose ``handler`` may be changed at any time. ``queries`` are what arrived, with from where."""

    def __init__(self, cluster: Cluster, ip: str = DNS) -> None:
        self.handler: Handler = honest
        self.queries: list[tuple[bytes, tuple[str, int]]] = []
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with cluster.lab.inside("outside"):
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            self.tcp = socket.socket(family, socket.SOCK_STREAM)
        self.udp.bind((ip, 53))
        self.tcp.bind((ip, 53))
        self.tcp.listen(64)
        for loop in (self._udp, self._tcp):
            threading.Thread(target=loop, daemon=True).start()

    def _udp(self) -> None:
        while True:
            try:
                data, peer = self.udp.recvfrom(65535)
            except OSError:
                return
            if not peer:  # shut down
                return
            self.queries.append((data, peer[:2]))
            for out in self.handler(data):
                self.udp.sendto(out, peer)

    def _tcp(self) -> None:
        while True:
            try:
                connection, peer = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection, peer), daemon=True).start()

    def _converse(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        framer = Framer()
        with connection:
            try:
                while piece := connection.recv(65535):
                    for data in framer.feed(piece):
                        self.queries.append((data, peer[:2]))
                        for out in self.handler(data):
                            connection.sendall(frame(out))
            except OSError:
                return

    def close(self) -> None:
        for sock in (self.udp, self.tcp):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class Rig:
    """What a test works with."""

    def __init__(self, cluster: Cluster, server: PlayedServer, agent: AgentProcess) -> None:
        self.cluster = cluster
        self.server = server
        self.agent = agent

    def names(self) -> set[str]:
        """The names that the agent has learned."""
        return {row[2] for row in self.agent.ask("cache-list")["rows"]}  # type: ignore[attr-defined]

    def count(self, counter: str) -> int:
        counts = self.agent.ask("status")["counts"]
        assert isinstance(counts, dict)
        return int(counts.get(counter, 0))

    def until(self, test: Callable[[], bool]) -> None:
        """Wait for something that the agent does by itself."""
        while not test():
            assert self.agent.running.poll() is None, "the agent has ended"
            threading.Event().wait(0.02)


@contextmanager
def rig(*options: str, policy: str = "", peers: tuple[str, ...] = ()) -> Iterator[Rig]:
    """A node with pods ``a`` and ``b`` under a policy that allows ``*.k8s.intra``, web servers at IP and OTHER."""
    if reason := missing():
        pytest.skip(reason)
    with Lab() as lab:
        cluster = Cluster(lab)
        cluster.add_node("node1")
        cluster.add_pod("node1", "a")
        cluster.add_pod("node1", "b")
        for ip in (IP, OTHER):
            cluster.serve_web(ip)
        server = PlayedServer(cluster)
        try:
            labels = {"a": "app=web", "b": "app=web"}
            agent = AgentProcess(
                cluster, "node1", policy or allow_names("*.k8s.intra"), labels, *options, peers=peers
            )
            agent.start()
            yield Rig(cluster, server, agent)
        finally:
            server.close()
