"""One world made real: applications, the server sidecars, the client's sidecar, and requests through them."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.workload import captures_inbound, captures_outbound
from deadhop.lab.mesh.apps import App
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.client_config import TCP_SUFFIX, ClientConfig, Tls
from deadhop.lab.mesh.config_common import loopback
from deadhop.lab.mesh.envoy import Envoy
from deadhop.lab.mesh.server_config import Inbound, server_bootstrap
from deadhop.model.mesh import AppFact, MeshRequest

PATIENCE = 0.8
SLOW = 2.5
APP_FACTS = (
    "closes_without_response",
    "server_first_binary",
    "never_answers",
    "tls_hello_gets_plaintext_error",
    "tls_hello_gets_silence",
    "http1_only",
)


class Observed(msgspec.Struct, frozen=True):
    """What the application's socket and the two access logs showed."""

    ending: str
    status: int | None
    body: str
    client: tuple[Mapping[str, Any], ...]
    server: tuple[Mapping[str, Any], ...]


class Roots(msgspec.Struct, frozen=True):
    """The mesh's authority and a foreign one."""

    mesh: Authority
    foreign: Authority


class Tail:
    """Reads what a log file gained."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self.offset = 0

    def take(self) -> list[Mapping[str, Any]]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Rig:
    """A running world for one client. Always :meth:`close` it."""

    def __init__(
        self, mesh: Mesh, client: str, facts: Iterable[AppFact], binary: Path, folder: Path, roots: Roots
    ) -> None:
        self.mesh, self.client, self.roots = mesh, mesh.pods[client], roots
        self.facts = {(f.where, f.what) for f in facts}
        self.folder, self.binary = folder, binary
        self.port = free_port()
        self.patience = PATIENCE
        self._stack = contextlib.ExitStack()
        self.envoys: dict[str, Envoy] = {}
        self.client_log, self.server_log = Tail(folder / "client.access"), Tail(folder / "server.access")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        inbound = self._applications()
        if inbound:
            config = server_bootstrap(self.mesh, inbound, self.server_log.path)
            self._run("server", config)
        if self.client.meshed:
            cert, key = self._certificate(self.client.key)
            tls = Tls(cert, key, self.roots.mesh.root)
            client = ClientConfig(self.mesh, self.client, self.port, tls, self.client_log.path).build()
            self._run("client", client)
        for envoy in self.envoys.values():
            envoy.wait()

    def _run(self, side: str, config: Mapping[str, Any]) -> None:
        envoy = Envoy(self.binary, self.folder, side, config)
        self.envoys[side] = self._stack.enter_context(envoy)

    def _certificate(self, pod: str) -> tuple[Path, Path]:
        foreign = (f"sidecar {pod}", "certificate_other_root") in self.facts
        root = self.roots.foreign if foreign else self.roots.mesh
        return root.issue(f"spiffe://{self.mesh.pods[pod].spiffe(self.mesh.config.trust_domain)}")

    def _applications(self) -> list[Inbound]:
        """Start applications, and collect the ports that a sidecar stands before."""
        fronts: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for service in self.mesh.services:
            for port in service.ports:
                members = service.ready_endpoints(port)
                if members and service.kubernetes:
                    first = (members[0][0].address, members[0][1])
                    fronts.setdefault(first, []).extend((v, port.number) for v in service.vips)
        inbound = []
        for pod in self.mesh.pods.values():
            if pod.key == self.client.key or not pod.ips:
                continue
            ip = pod.ips[0]
            for _, number in pod.ports:
                where = f"{ip}:{number}"
                if number == 15090 or (where, "connect_refused") in self.facts:
                    continue
                vips = tuple(a for a in dict.fromkeys(fronts.get((ip, number), [])) if a != (ip, number))
                behaviour = frozenset(f for f in APP_FACTS if (where, f) in self.facts)
                listening = (where, "not_listening") not in self.facts
                if captures_inbound(pod, number)[0]:
                    app_port = self._app("127.0.0.1", 0, behaviour) if listening else free_port()
                    cert, key = self._certificate(pod.key)
                    inbound.append(Inbound(pod, ip, number, vips, app_port, cert, key, self.roots.mesh.root))
                elif listening:
                    for address in ((ip, number), *vips):
                        self._app(loopback(address[0]), address[1], behaviour)
        return inbound

    def _app(self, address: str, port: int, behaviour: frozenset[str]) -> int:
        app = App(address, port, behaviour)
        self._stack.callback(app.close)
        return app.port

    def send(self, request: MeshRequest, server_lines: int, slow: bool = False) -> Observed:
        """Send one request and read the logs; ``server_lines`` is how many the server's side should write.

        ``slow``: something on the way takes more than a second on purpose (a delayed close).
        """
        captured = captures_outbound(self.client, request.dst_ip, request.dst_port)[0]
        ending, status, body = self._exchange(request, captured, SLOW if slow else self.patience)
        client: list[Mapping[str, Any]] = []
        server: list[Mapping[str, Any]] = []
        deadline = time.monotonic() + (SLOW if slow else 0.5)
        while True:
            client += self.client_log.take()
            server += self.server_log.take()
            if (len(client) >= int(captured) and len(server) >= server_lines) or time.monotonic() > deadline:
                break
            time.sleep(0.003)
        for line in client:
            if isinstance(line.get("cluster"), str):
                line["cluster"] = line["cluster"].removesuffix(TCP_SUFFIX)  # type: ignore[index]
        return Observed(ending, status, body, tuple(client), tuple(server))

    def _exchange(self, request: MeshRequest, captured: bool, patience: float) -> tuple[str, int | None, str]:
        target = ("127.0.0.1", self.port) if captured else (loopback(request.dst_ip), request.dst_port)
        head = (
            f"PROXY TCP4 127.0.0.1 {loopback(request.dst_ip)} 40000 {request.dst_port}\r\n"
            if captured
            else ""
        )
        data = b""
        try:
            with socket.create_connection(target, timeout=5) as connection:
                connection.settimeout(patience)
                connection.sendall(head.encode() + written(self.facts, request))
                while more := connection.recv(65536):
                    data += more
                    if complete(data):
                        break
        except TimeoutError:
            return ("timeout" if not data else "response"), *parsed(data)
        except OSError:
            return ("reset" if not data else "response"), *parsed(data)
        return ("closed" if not data else "response"), *parsed(data)

    def close(self) -> None:
        """End the processes and listeners of this world."""
        self._stack.close()


def written(facts: set[tuple[str, str]], request: MeshRequest) -> bytes:
    """What the application writes."""
    if (request.client, "client_sends_partial_client_hello") in facts:
        return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
    lines = [f"{request.method} {request.path} HTTP/{request.http_version}"]
    if request.host is not None:
        lines.append(f"Host: {request.host}")
    lines += [f"{k}: {v}" for k, v in request.headers]
    lines.append(
        "Connection: close"
        if not any(k.lower() == "connection" for k, _ in request.headers)
        else "X-Filler: 1"
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def complete(data: bytes) -> bool:
    """Is the first response in these bytes complete? Only needed where the peer keeps the connection open."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


def parsed(data: bytes) -> tuple[int | None, str]:
    """Status and body."""
    head, _, body = data.partition(b"\r\n\r\n")
    parts = head.split(b" ", 2)
    status = int(parts[1]) if data.startswith(b"HTTP/") and len(parts) > 1 and parts[1].isdigit() else None
    return status, body.decode(errors="replace")
