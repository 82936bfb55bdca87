"""The running agent: it puts the parts together, and owns their order at start, at a reload and at the end.

At start the policies are compiled and the kernel's table is replaced in one transaction, with what was learned before
still in it, so that there is no moment without rules; then privileges are dropped and the loop runs. The rules stay
when the agent ends, in whatever way: what is learned stays allowed for its lease, DNS that needs the proxy is
dropped, everything else of the endpoints as before.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from deadhop.agent import endpoints, packets, policyfile, privileges, routes, ruleset, sockets, web
from deadhop.agent.api import Api
from deadhop.agent.config import Settings
from deadhop.agent.core import Core, Prepared
from deadhop.agent.endpoints import Endpoint, EndpointSpec
from deadhop.agent.flows import FlowLog
from deadhop.agent.handlers import handlers
from deadhop.agent.jobs import Jobs, tidy
from deadhop.agent.journal import Journal, StateError, read
from deadhop.agent.loop import Loop
from deadhop.agent.nft import LibNft, Nft, NftError, open_nft
from deadhop.agent.proxy import Proxy
from deadhop.agent.stats import Stats
from deadhop.agent.tcp import TcpProxy
from deadhop.agent.udp import UdpProxy
from deadhop.agent.worker import Worker
from deadhop.fqdn.cache import DNSCache
from deadhop.fqdn.patterns import PatternError
from deadhop.model.observed.kube import KubeObject

BIND_RETRY, BIND_TRIES = 4.0, 5
SWITCH_INTERVAL = 0.0005
"""Seconds that a reload's compilation may keep the loop waiting at a time."""


class StartError(RuntimeError):
    """The agent cannot start; the rules that stand are left as they are."""


def log(text: str, level: str = "info") -> None:
    """One line of the agent's log."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"time={stamp} level={level} msg={json.dumps(text)}", file=sys.stderr, flush=True)


class Agent:
    """One agent in the network namespace that it was started in. :meth:`start`, then :meth:`run`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stats = Stats()
        self.core = Core(settings.version, settings.options, settings.dns_gc_interval)
        self.loop = Loop(self._failed)
        self.flows = FlowLog(self.core, settings.node or socket.gethostname())
        self.beat = time.monotonic()
        self.trouble = ""
        self.interrupted = False
        self.port = 0
        self._reloading = False
        self._again = False

    # Start

    def start(self) -> None:
        """Everything up to the loop. Raises :class:`StartError`, ``PolicyRefused``, ``StateError``."""
        settings = self.settings
        sys.setswitchinterval(SWITCH_INTERVAL)
        privileges.raise_limits()
        found = self.endpoints()
        policies = policyfile.load(settings.policies, settings.version)
        prepared = self.core.prepare(found, policies)
        pre_cache = self._pre_cache()
        self.journal = Journal(settings.state)
        lines, complaints = read(settings.state)
        self.core.recall(lines)
        try:
            self.core.adopt(found, policies, prepared)
        except PatternError as error:
            raise StartError(f"a DNS rule does not compile: {error}") from error
        for complaint in [*complaints, *self.core.load(lines, time.time(), pre_cache)]:
            log(f"state: {complaint}", "warning")
        saved = next((ln[1].get("port") for ln in lines if ln[0] == "proxy" and isinstance(ln[1], dict)), 0)
        udp, tcp = self._listen(saved if isinstance(saved, int) else 0)
        try:
            for family in routes.install():
                log(f"{family} cannot be redirected here", "warning")
            self.nft: Nft = open_nft()
            self._replace(self.nft)
            answers = sockets.Answers()
        except (OSError, NftError) as error:
            raise StartError(f"the rules cannot be set: {error}") from error
        self.journal.snapshot(self.core.lines(self.port))
        packet_log = self._packet_log()
        self.api = Api(self.loop, settings.socket, handlers(self))
        if not settings.keep_privileges:
            privileges.drop()
        self.worker = Worker(self.nft, self.loop.post, at_once=isinstance(self.nft, LibNft))
        self.proxy = Proxy(
            self.core,
            self.loop,
            self.worker,
            self.journal,
            self.flows,
            self.stats,
            rate_limit=settings.rate_limit,
            set_failed=self.set_failed,
        )
        self.udp = UdpProxy(self.proxy, udp, answers, transparent=settings.transparent)
        self.tcp = TcpProxy(self.proxy, tcp, transparent=settings.transparent, linger=settings.linger)
        self.jobs = Jobs(self)
        if packet_log is not None:
            self.loop.add(packet_log.fileno(), lambda _events: self._logged(packet_log))
        self.loop.every(1.0, self._beat)
        if settings.metrics_port:
            web.serve(self, settings.metrics_port, lambda text: log(text, "warning"))
        self.loop.on_signal(signal.SIGTERM, self.loop.stop)
        self.loop.on_signal(signal.SIGINT, self._interrupt)
        self.loop.on_signal(signal.SIGHUP, self.reload)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of the command line, and this node itself. Raises :class:`StartError`."""
        found: list[Endpoint] = []
        try:
            for text in self.settings.endpoints:
                found.append(endpoints.resolve(endpoints.parse(text)))
        except (ValueError, PermissionError) as error:
            raise StartError(str(error)) from error
        names = [e.name for e in found]
        if len(set(names)) < len(names):
            raise StartError("two endpoints have the same name")
        taken = {ip for e in found for ip in e.addresses}
        own = tuple(ip for ip in _own_addresses() if ip not in taken)
        spec = EndpointSpec(namespace="", pod=self.flows.node, labels={}, entity="host", addresses=own)
        return (*found, Endpoint(spec=spec, addresses=own))

    def _pre_cache(self) -> DNSCache | None:
        path = self.settings.pre_cache
        if not path:
            return None
        cache = DNSCache(self.settings.options.min_ttl)
        try:
            with open(path, "rb") as file:
                complaints = cache.load_json(file.read())
        except (OSError, ValueError) as error:
            raise StartError(f"tofqdns-pre-cache {path}: {error}") from error
        for complaint in complaints:
            log(f"tofqdns-pre-cache {path}: {complaint}", "warning")
        return cache

    def _listen(self, saved: int) -> tuple[list[socket.socket], list[socket.socket]]:
        """One port for both transports and families: the flag's, else the one from before, else any."""
        wanted = self.settings.proxy_port
        for attempt in range(BIND_TRIES if wanted else 1):
            if attempt:
                time.sleep(BIND_RETRY)
            for port in (wanted,) if wanted else (saved, 0, 0, 0):
                made: list[socket.socket] = []
                try:
                    for ip in ("127.0.0.1", "::1"):
                        if ip == "::1" and not _has_ipv6():
                            continue
                        for tcp in (True, False):
                            made.append(sockets.listener(ip, port, tcp=tcp))
                            port = made[0].getsockname()[1]
                except OSError as error:
                    problem = error
                    for sock in made:
                        sock.close()
                    continue
                self.port = port
                return [s for s in made if s.type == socket.SOCK_DGRAM], [
                    s for s in made if s.type == socket.SOCK_STREAM
                ]
        raise StartError(f"the proxy cannot listen: {problem}")

    def _packet_log(self) -> socket.socket | None:
        try:
            return packets.open_log(ruleset.LOG_GROUP)
        except OSError as error:
            log(f"dropped connections are counted but not shown as flows: {error}", "warning")
            return None

    # The table

    def _table(self, nft: Nft) -> str:
        """The transaction that replaces the table, continuing its counters."""
        try:
            listed = nft.query(f"list counters table inet {ruleset.TABLE}")
        except NftError:
            listed = []
        counters = {
            c["counter"]["name"]: (c["counter"]["packets"], c["counter"]["bytes"])
            for c in listed
            if "counter" in c
        }
        return ruleset.replace(self._plan, port=self.port, counters=counters, elements=self._elements)

    def _replace(self, nft: Nft) -> None:
        self._plan, self._elements = self.core.plan, self.core.arrange(time.time())
        nft.run(self._table(nft))
        self.core.sets.applied(self.core.sets.batch)

    def set_failed(self, error: str) -> None:
        """nftables refused a change: the table and our idea of it may differ, so it is made anew."""
        self.stats.count["set_errors"] += 1
        log(f"nftables refused a change, the table is replaced: {error}", "error")
        self.core.sets.forget()
        self.replace_table()

    def replace_table(self) -> None:
        """Replace the table without a gap, behind the changes that are under way."""
        self._plan, self._elements = self.core.plan, self.core.arrange(time.time())
        batch = self.core.sets.batch

        def done(error: str) -> None:
            self.core.sets.applied(batch)
            self.trouble = f"the rules cannot be set: {error}" if error else ""
            if error:
                log(self.trouble, "error")
                self.loop.after(5.0, self.replace_table)

        self.worker.apply(self._table, done)

    # Reload

    def reload(self) -> None:
        """Read the policies again while queries are served; a refused file changes nothing."""
        from threading import Thread

        if self._reloading:
            self._again = True
            return
        self._reloading = True
        Thread(target=self._prepare, name="reload", daemon=True).start()

    def _prepare(self) -> None:
        known = self.core.endpoints
        try:
            policies = policyfile.load(self.settings.policies, self.settings.version)
            prepared = self.core.prepare(known, policies)
        except Exception as error:
            text = f"reload refused, the policies in force stay: {error}"
            self.loop.post(lambda: self._reloaded(text))
            return
        self.loop.post(lambda: self._adopt(known, policies, prepared))

    def _adopt(self, known: Sequence[Endpoint], policies: Sequence[KubeObject], prepared: Prepared) -> None:
        began = time.perf_counter()
        try:
            self.core.adopt(known, policies, prepared)
        except PatternError as error:
            self._reloaded(f"reload refused: a DNS rule does not compile: {error}")
            return
        self.proxy.forget()
        self.replace_table()
        pause = time.perf_counter() - began
        self.worker.apply((), lambda _error: self.jobs.end_forbidden())
        self.journal.begin_snapshot(self.core.lines(self.port))
        self._reloaded(
            f"policies reloaded: {len(policies)}; the loop stood still for {pause * 1e3:.1f} ms", "info"
        )

    def _reloaded(self, text: str, level: str = "error") -> None:
        log(text, level)
        self._reloading = False
        if self._again:
            self._again = False
            self.reload()

    # The loop

    def _interrupt(self) -> None:
        self.interrupted = True
        self.loop.stop()

    def _beat(self) -> None:
        self.beat = time.monotonic()
        self.stats.count["unlearned"] = self.core.unlearned
        while self.flows.notes:
            log(self.flows.notes.popleft(), "warning")

    def _failed(self, error: BaseException) -> None:
        self.stats.count["errors"] += 1
        if self.stats.count["errors"] <= 100:
            import traceback

            log("".join(traceback.format_exception(error)[-3:]), "error")

    def _logged(self, sock: socket.socket) -> None:
        try:
            for packet in packets.packets(sock.recv(1 << 17)):
                self.flows.packet(packet)
        except OSError:  # ENOBUFS: the kernel logged faster than we read; the counters have them all
            self.stats.count["log_overruns"] += 1

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then leave the rules and the state behind."""
        local = [e.name for e in self.core.endpoints if e.local]
        log(f"ready: {len(local)} endpoints, {len(self.core.policies)} policies, proxy port {self.port}")
        gc.collect()
        gc.disable()
        tidy()
        try:
            self.loop.run()
        finally:
            self.stop()

    def stop(self) -> None:
        """Save the state. The rules stay."""
        if self.settings.options.policy_unload_on_shutdown:
            self.jobs.unload_dns()
        self.worker.close()
        try:
            self.journal.snapshot(self.core.lines(self.port))
        except StateError as error:
            log(f"the state of before stays, with what the journal has since: {error}", "error")
        self.journal.close()
        self.api.close()
        log("stopped; the rules stay in force (fqdn agent --cleanup removes them)")


def cleanup() -> list[str]:
    """Take the rules and routes away. Returns what was there. Raises :class:`StartError`."""
    removed = []
    try:
        nft = open_nft()
        tables = nft.query("list tables")
        if any(t.get("table", {}).get("name") == ruleset.TABLE for t in tables):
            nft.run(f"delete table inet {ruleset.TABLE}")
            removed.append(f"nftables table inet {ruleset.TABLE}")
    except (OSError, NftError) as error:
        raise StartError(str(error)) from error
    routes.remove()
    removed.append(f"the rule for mark {ruleset.MARK:#x} and the routes of table {routes.TABLE}")
    return removed


def _own_addresses() -> list[str]:
    from pyroute2 import IPRoute

    with IPRoute() as here:
        listed = [str(a.get_attr("IFA_ADDRESS")) for a in here.get_addr()]
        local = [str(a.get_attr("IFA_LOCAL") or a.get_attr("IFA_ADDRESS")) for a in here.get_addr()]
    return list(dict.fromkeys(ip for ip in [*local, *listed] if not ip.startswith("127.") and ip != "::1"))


def _has_ipv6() -> bool:
    return os.path.exists("/proc/net/if_inet6")
