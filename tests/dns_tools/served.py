"""A server of ours on loopback for a test, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deadhop.dns.faults import Faults
from deadhop.dns.listen import Server
from deadhop.dns.sockets import endpoint
from deadhop.wire.zonefile import ZoneFile

ZONE = """\
$ORIGIN corp.test.
$TTL 300
@      SOA ns hostmaster 1 3600 600 86400 30
@      NS  ns
ns     A   192.0.2.53
api    30 A 192.0.2.1
api    30 AAAA 2001:db8::1
www    CNAME api
out    CNAME www.elsewhere.test.
*.wild A   192.0.2.9
a.deep.tree A 192.0.2.7
sub    NS  ns.sub
ns.sub A   192.0.2.54
short  2 A 192.0.2.2
""" + "".join(f"_kerberos._udp 600 SRV 0 100 88 kdc{n:02}.site-{n % 7}\n" for n in range(48))


class Served:
    """``port`` listens on 127.0.0.1; ``lines`` is the query log."""

    def __init__(self) -> None:
        self.port = 0
        self.lines: list[str] = []

    def asked(self, transport: str = "") -> list[str]:
        """The questions so far, ``TYPE NAME``, of one transport."""
        words = [line.split('"')[1].split() for line in self.lines if '"' in line]
        return [f"{w[0]} {w[2]}" for w in words if transport in ("", w[3])]


@contextmanager
def served(
    zone: str = ZONE, faults: Faults | None = None, *, listen: str = "127.0.0.1:0", df: bool = False
) -> Iterator[Served]:
    """Our server for the zone, until the block ends."""
    found = Served()
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()
    problem: list[BaseException] = []

    async def run() -> None:
        server = Server(ZoneFile(zone), faults or Faults(), df=df, say=found.lines.append)
        try:
            await server.start([endpoint(listen)])
            found.port = server.bound[0][1]
            started.set()
            await stop.wait()
        except OSError as error:
            problem.append(error)
            started.set()
        finally:
            server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    try:
        started.wait()
        if problem:
            raise problem[0]
        yield found
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def coredns_binary() -> str:
    """A CoreDNS binary, empty where there is none: DEADHOP_COREDNS, the PATH, or what ``scripts/build-coredns`` built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "deadhop/bin/coredns")
    found = os.environ.get("DEADHOP_COREDNS") or shutil.which("coredns")
    return found or (str(cache) if os.access(cache, os.X_OK) else "")


class Running:
    """A CoreDNS process: where it listens and what it has logged."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.lines: list[str] = []
        self.complete = False
        self.grew = threading.Condition()

    def follow(self, ready: threading.Event) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.grew:
                self.lines.append(line.rstrip("\n"))
                self.grew.notify_all()
            if "CoreDNS-" in line:
                ready.set()
        ready.set()
        with self.grew:
            self.complete = True
            self.grew.notify_all()

    def line(self, text: str, after: int = 0) -> str:
        """The first line behind ``after`` with that text, waited for; fails where the server ends without it."""
        with self.grew:
            while True:
                for line in self.lines[after:]:
                    if text in line:
                        return line
                assert not self.complete, "\n".join(self.lines)
                self.grew.wait(0.5)


@contextmanager
def coredns(binary: str, corefile: str, place: Path) -> Iterator[Running]:
    """A real CoreDNS with this Corefile; ``PORT`` in it becomes a free port of loopback."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = place / f"Corefile-{port}"
    path.write_text(corefile.replace("PORT", str(port)))
    process = subprocess.Popen(
        [binary, "-conf", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=place
    )
    running, ready = Running(process, port), threading.Event()
    thread = threading.Thread(target=running.follow, args=(ready,), daemon=True)
    thread.start()
    try:
        ready.wait()
        assert process.poll() is None, "\n".join(running.lines)
        yield running
    finally:
        process.terminate()
        process.wait()
        thread.join()
        if process.stdout:
            process.stdout.close()
