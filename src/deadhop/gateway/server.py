"""The running gateway: listeners, the way of a request, the end.

A request's way: refused head, path, route, identity, connection, exchange, log line. On SIGTERM the listeners close,
idle connections go, what is under way may finish within ``timeouts.drain``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import traceback
from ipaddress import ip_address, ip_network
from time import monotonic
from typing import Any

from deadhop.gateway import metrics
from deadhop.gateway.access_log import AccessLog, shown, target
from deadhop.gateway.auth import Authenticator, Identity, authenticator
from deadhop.gateway.client import ClientConnection, Request
from deadhop.gateway.config import Config, Route, endpoint
from deadhop.gateway.exchange import Exchange
from deadhop.gateway.outbound import Fields, Rules, request_fields, written
from deadhop.gateway.pool import IDEMPOTENT, Pool, Unavailable
from deadhop.gateway.rules import compile_rules, identity_fields
from deadhop.gateway.table import Ambiguous, Table, canonical

#: What the client is told where the gateway ends a request itself: status and one sentence.
ANSWERS: dict[str, tuple[int, str]] = {
    "no-route": (404, "no route of the gateway has this host and path"),
    "path": (400, "the path has several readings"),
    "loop": (508, "this request has been here before"),
    "connect-refused": (502, "the upstream refuses the connection"),
    "connect-timeout": (504, "the upstream does not accept the connection"),
    "unresolved": (502, "the upstream's name does not resolve"),
    "tls": (502, "the upstream's certificate or TLS is not accepted"),
    "overflow": (503, "all connections to the upstream are in use"),
    "upstream-closed": (502, "the upstream closed the connection before its answer"),
    "upstream-reset": (502, "the upstream reset the connection before its answer"),
    "bad-response": (502, "the upstream's answer is not HTTP, or has several readings"),
    "unasked-upgrade": (502, "the upstream switched protocols without being asked"),
    "response-timeout": (504, "the upstream does not answer"),
    "stream-timeout": (504, "nothing was sent in either direction"),
    "malformed-body": (400, "the request's body is malformed"),
}
SWEEP = 0.5


class Gateway:
    """One process, one loop. :meth:`start`, then :meth:`drain`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.table = Table(config)
        self.pools = {name: Pool(name, u, config) for name, u in config.upstreams.items()}
        self.rules: dict[str, Rules] = {
            r.name: compile_rules(r, config.upstreams[r.upstream]) for r in config.routes
        }
        self.counts = metrics.Counts()
        self.clients: set[ClientConnection] = set()
        self.log = AccessLog(config.access_log)
        self.auth: Authenticator | None = authenticator(config)
        self.draining = False
        self.active = 0
        self.via = b"1.1 deadhop-" + os.urandom(4).hex().encode()
        self._trust = [ip_network(t) for t in config.trust]
        self._trusted: dict[str, bool] = {}
        self._servers: list[asyncio.Server] = []
        self._admin: Any = None
        self._sweeper: asyncio.TimerHandle | None = None

    # Life.

    async def start(self) -> list[str]:
        """Listen. The addresses as bound. Raises :class:`OSError` and :class:`ssl.SSLError`."""
        context = None
        if self.config.tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.config.tls.cert, self.config.tls.key)
            context.set_alpn_protocols(["http/1.1"])
        bound = []
        for text in self.config.listeners:
            host, port = endpoint(text)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family, backlog=1024)
            host, port = listener.getsockname()[:2]
            server = await self.loop.create_server(
                lambda port=port: ClientConnection(self, port),
                sock=listener,
                ssl=context,
                ssl_handshake_timeout=self.config.timeouts.header if context else None,
            )
            self._servers.append(server)
            bound.append(f"{'https' if context else 'http'}://{f'[{host}]' if ':' in host else host}:{port}")
        self._admin = metrics.serve(self, *endpoint(self.config.admin))
        host, port = self._admin.server_address[:2]
        bound.append(f"admin http://{host}:{port}")
        self._tick()
        return bound

    def _tick(self) -> None:
        now = monotonic()
        for client in list(self.clients):
            client.sweep(now)
        for pool in self.pools.values():
            pool.sweep(now)
        self._sweeper = self.loop.call_later(SWEEP, self._tick)

    async def drain(self) -> int:
        """Stop listening, let what is under way finish. How many connections were cut."""
        self.draining = True
        for server in self._servers:
            server.close()
        for client in list(self.clients):
            client.end()
        until = monotonic() + self.config.timeouts.drain
        while self.clients and monotonic() < until:
            await asyncio.sleep(0.02)
        left = len(self.clients)
        for client in list(self.clients):
            client.abort()
        for pool in self.pools.values():
            pool.close()
        if self.auth:
            await self.auth.close()
        if self._sweeper:
            self._sweeper.cancel()
        if self._admin:
            await asyncio.to_thread(self._admin.shutdown)
            self._admin.server_close()
        await asyncio.sleep(0)
        self.log.flush()
        return left

    def complain(self, text: str, error: BaseException | None = None) -> None:
        """A line for the operator."""
        print(f"deadhop gateway: {text}", file=sys.stderr, flush=True)
        if error is not None and os.environ.get("DEADHOP_DEBUG"):
            traceback.print_exception(error)

    # What connections ask.

    def trusts(self, address: str) -> bool:
        """Is a peer a proxy whose word about the client counts?"""
        known = self._trusted.get(address)
        if known is None:
            try:
                ip = ip_address(address)
            except ValueError:
                return False
            ip = getattr(ip, "ipv4_mapped", None) or ip
            known = any(ip.version == n.version and ip in n for n in self._trust)
            if len(self._trusted) > 10000:
                self._trusted.clear()
            self._trusted[address] = known
        return known

    def admit(self, client: ClientConnection) -> bool:
        self.clients.add(client)
        return len(self.clients) <= self.config.limits.connections

    def forget(self, client: ClientConnection) -> None:
        self.clients.discard(client)

    # A request.

    async def handle(self, client: ClientConnection, request: Request) -> bool:
        """Serve one request. Can the connection go on?"""
        entry: dict[str, Any] = {"time": "", "client": client.sender.address}
        self.active += 1
        try:
            return await self._serve(client, request, entry)
        finally:
            self.active -= 1
            seconds = monotonic() - request.started
            route, result = entry.get("route", ""), entry.get("result", "internal")
            self.counts.add(route, entry.get("status", 500), result, seconds)
            if self.log.on:
                self.log.add(
                    entry
                    | {
                        "method": request.method.decode("latin-1"),
                        "target": target(request.target),
                        "seconds": round(seconds, 6),
                    }
                )

    async def _serve(self, client: ClientConnection, request: Request, entry: dict[str, Any]) -> bool:
        head = request.head
        if request.refused is not None or head is None:
            status = request.refused.status if request.refused else 400
            entry |= {"result": request.refused.reason if request.refused else "malformed", "status": status}
            client.reply(status, f"refused: {entry['result']}\n".encode(), close=True, method=request.method)
            return False
        entry["host"] = head.authority.decode("latin-1")
        try:
            path = canonical(head.target)
        except Ambiguous:
            return self._answer(client, request, entry, "path")
        if any(n == b"via" and self.via in v for n, v in head.fields):
            return self._answer(client, request, entry, "loop")
        route = self.table.find(head.host, path)
        who: Identity | None = None
        if self.auth is not None:
            verdict = await self.auth.admit(head, path, client.sender, route)
            if not isinstance(verdict, Identity | None):
                entry |= {"result": verdict.reason, "status": verdict.status, "route": route.name if route else ""}  # fmt: skip
                keep = client.keeps(request)
                client.reply(verdict.status, verdict.body, verdict.fields, close=not keep, method=request.method, version=request.version)  # fmt: skip
                return keep
            who = verdict
        if route is None:
            return self._answer(client, request, entry, "no-route")
        entry["route"] = route.name
        if who is not None:
            entry["identity"] = who.subject
        return await self._forward(client, request, route, who, entry)

    async def _forward(
        self,
        client: ClientConnection,
        request: Request,
        route: Route,
        who: Identity | None,
        entry: dict[str, Any],
    ) -> bool:
        head, rules, pool = request.head, self.rules[route.name], self.pools[route.upstream]
        assert head is not None
        fields = request_fields(
            head,
            rules,
            client.sender,
            via=self.via,
            request_id=os.urandom(16).hex().encode(),
            who=identity_fields(rules, who),
            cookie=self.auth.cookie if self.auth else "",
            drop=who.spent if who else frozenset(),
        )
        octets = written(head.method + b" " + head.target + b" HTTP/1.1", fields)
        if self.log.on:
            entry["outgoing"] = self._outgoing(pool, head.target, fields, rules)
        fresh = False
        while True:
            try:
                upstream, reused = await pool.take(head.method, fresh)
            except Unavailable as failure:
                entry["detail"] = failure.detail
                return self._answer(client, request, entry, failure.reason)
            if client.lost or request.refused:
                pool.give(upstream, whole=False)
                return self._answer(client, request, entry, "malformed-body" if request.refused else "client-gone")  # fmt: skip
            exchange = client.exchange = Exchange(client, request, upstream)
            exchange.start(octets)
            client.body_taken()
            result = await exchange.done
            client.exchange = None
            client.hold("upstream", False)
            whole = result == "ok" and request.complete
            address = upstream.address
            pool.give(upstream, whole)
            again = reused and not exchange.begun and not exchange.sent and request.complete
            if again and head.method in IDEMPOTENT and result in ("upstream-closed", "upstream-reset"):
                fresh = True
                self.counts.retries += 1
                continue
            break
        self.counts.received += exchange.sent
        self.counts.sent += exchange.received
        entry |= {"result": result, "received": exchange.sent, "sent": exchange.received}
        if self.log.on:
            out = entry["outgoing"]
            out |= {"address": address, "reused": reused}
            if exchange.head_at:
                waited = exchange.head_at - (exchange.sent_at or request.started)
                out |= {"status": exchange.status, "seconds": round(max(waited, 0.0), 6)}
        if not exchange.begun and result != "ok":
            return self._answer(client, request, entry, result)
        entry["status"] = exchange.status
        if result not in ("ok", "switched"):
            client.abort()  # a cut response must not look like a whole one
            return False
        return exchange.keep and result == "ok" and request.complete

    def _outgoing(self, pool: Pool, path: bytes, fields: Fields, rules: Rules) -> dict[str, Any]:
        host, port = pool.address
        return {
            "dial_host": host,
            "dial_port": port,
            "tls": pool.tls,
            "target": target(path),
            "headers": shown(fields, rules.secret),
        }

    def _answer(self, client: ClientConnection, request: Request, entry: dict[str, Any], reason: str) -> bool:
        status, text = ANSWERS.get(reason, (499, ""))
        entry |= {"result": reason, "status": status}
        if client.lost or not text:
            return False
        keep = client.keeps(request) and status != 400
        client.reply(status, f"deadhop gateway: {text}\n".encode(), close=not keep, method=request.method, version=request.version)  # fmt: skip
        return keep
