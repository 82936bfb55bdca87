"""The policy agent's throughput, added latency, reload and memory, against the same traffic through other forwarders.

Real processes in namespaces: dnsperf in a pod, unbound as the server, in between the kernel alone (``routed``), a
forwarder of a few lines on the agent's loop (``bare``), dnsdist or unbound as forwarders, and the agent with 10,000
selectors. The forwarder runs on one core, generator and server on the other. Figures are this machine's; the ratios
say more. ``sudo python bench/agent.py [--seconds N] [--names N]``; needs dnsperf and unbound (Debian).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deadhop.agent.loop import Loop
from deadhop.lab.scenarios._fqdn import DNS, AgentProcess, Cluster, addresses, allow_names, missing
from deadhop.lab.topology.made import Lab

KNOWN, SELECTORS, NEW_SHARE = 1000, 10_000, 100
"""Names that everybody knows, selectors loaded, and one query in so many for a name never asked before."""
ASKED_FOR = 40_000
"""Names that the measurements together ask for."""
NODE, PORT = "10.70.1.2", 5300
RATE = 10_000


def say(text: str) -> None:
    """Progress, where somebody watches."""
    print(text, file=sys.stderr, flush=True)


def pinned(core: int, *argv: str) -> list[str]:
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)]), *argv]


def address_of(number: int) -> str:
    return f"100.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"


class Bench:
    """The namespaces, the server and the generator."""

    def __init__(self, lab: Lab, seconds: float, names: int) -> None:
        self.lab = lab
        self.seconds = seconds
        self.cluster = Cluster(lab)
        self.cluster.add_node("node1")
        self.cluster.add_pod("node1", "a")
        self.names = names
        self.new_share = NEW_SHARE
        self._fresh = KNOWN
        self._serve()

    def _serve(self) -> None:
        data = self.lab.scratch / "names.conf"
        with data.open("w") as file:
            file.writelines(
                f'local-data: "n{n}.k8s.intra. 300 A {address_of(n)}"\n' for n in range(self.names + 1)
            )
        path = self.lab.scratch / "unbound.conf"
        path.write_text(
            f'server:\n  interface: {DNS}\n  access-control: 0.0.0.0/0 allow\n  do-daemonize: no\n  chroot: ""\n'
            '  username: ""\n  pidfile: ""\n  use-syslog: no\n  num-threads: 1\n  so-rcvbuf: 0\n  minimal-responses: yes\n'
            f'  module-config: "iterator"\n  local-zone: "k8s.intra." static\n  include: {data}\n'
        )
        self.lab.start("outside", pinned(0, "/usr/sbin/unbound", "-d", "-c", str(path)))
        while self.cluster.ask("outside", "n1.k8s.intra.") is None:
            time.sleep(0.2)

    def queries(self, count: int) -> Path:
        """A file of queries, one in ``new_share`` for a fresh name, none where that is 0."""
        path = self.lab.scratch / "queries"
        with path.open("w") as file:
            for number in range(count):
                new = self.new_share > 0 and number % self.new_share == 0
                fresh = new and self._fresh < self.names
                if fresh:
                    self._fresh += 1
                file.write(f"n{self._fresh if fresh else number % KNOWN}.k8s.intra A\n")
        return path

    def perf(self, server: str, port: int, *more: str, verbose: bool = False) -> str:
        queries = self.queries(200_000)
        argv = [
            "dnsperf",
            "-s",
            server,
            "-p",
            str(port),
            "-d",
            str(queries),
            "-l",
            str(self.seconds),
            "-c",
            "4",
            *more,
        ]
        return self.lab.must("a", pinned(0, *argv, *(["-v"] if verbose else [])))

    def measure(self, server: str, port: int) -> tuple[float, float, float, float]:
        """(queries a second at most, share lost then, p50, p99 in ms at RATE a second)."""
        out = self.perf(server, port, "-q", "64")
        rate = float(re.search(r"Queries per second:\s+([\d.]+)", out)[1])  # type: ignore[index]
        lost = float(re.search(r"Queries lost:.*\(([\d.]+)%\)", out)[1])  # type: ignore[index]
        offered = min(RATE, int(rate * 0.7))
        out = self.perf(server, port, "-q", "1000", "-Q", str(offered), verbose=True)
        times = sorted(float(t) for t in re.findall(r"^> \w+ \S+ A ([\d.]+)$", out, re.M))
        return rate, lost, times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3


def bare_forwarder(listen: str, port: int) -> None:
    """Receives, gives an id of its own, forwards, gives the id back: what any forwarder has to do."""
    loop = Loop(print)
    down = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    down.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    down.bind((listen, port))
    up = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    up.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    up.connect((DNS, 53))
    waiting: dict[bytes, tuple[bytes, tuple[str, int]]] = {}
    number = 0

    def from_client(_events: int) -> None:
        nonlocal number
        for _ in range(64):
            try:
                data, peer = down.recvfrom(4096)
            except BlockingIOError:
                return
            number = number + 1 & 0xFFFF
            ident = number.to_bytes(2, "big")
            waiting[ident] = data[:2], peer
            up.send(ident + data[2:])

    def from_server(_events: int) -> None:
        for _ in range(64):
            try:
                data = up.recv(4096)
            except BlockingIOError:
                return
            found = waiting.pop(data[:2], None)
            if found is not None:
                down.sendto(found[0] + data[2:], found[1])

    loop.add(down.fileno(), from_client)
    loop.add(up.fileno(), from_server)
    print("ready", flush=True)
    loop.run()


@contextmanager
def running(bench: Bench, argv: list[str]) -> Iterator[None]:
    """A forwarder on its core, ready when it answers."""
    process = bench.lab.start("node1", pinned(1, *argv))
    try:
        while not addresses(bench.cluster.ask("a", "n1.k8s.intra.", server=NODE, port=PORT)):
            if process.poll() is not None:
                raise RuntimeError(f"{argv[0]} ended with {process.returncode}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def peers(bench: Bench) -> dict[str, Callable[[], list[str]] | str]:
    """Other forwarders by name, or why one is left out."""

    def dnsdist() -> list[str]:
        path = bench.lab.scratch / "dnsdist.conf"
        path.write_text(
            f'setLocal("{NODE}:{PORT}")\nsetACL({{"0.0.0.0/0"}})\nnewServer({{address="{DNS}:53", sockets=4}}):setUp()\n'
            "setSecurityPollSuffix('')\n"
        )
        return ["dnsdist", "--supervised", "--disable-syslog", "-C", str(path)]

    def unbound() -> list[str]:
        path = bench.lab.scratch / "forward.conf"
        path.write_text(
            f'server:\n  interface: {NODE}@{PORT}\n  access-control: 0.0.0.0/0 allow\n  do-daemonize: no\n  chroot: ""\n'
            '  username: ""\n  pidfile: ""\n  use-syslog: no\n  num-threads: 1\n  module-config: "iterator"\n'
            f'  msg-cache-size: 0\n  rrset-cache-size: 0\nforward-zone:\n  name: "."\n  forward-addr: {DNS}\n'
        )
        return ["/usr/sbin/unbound", "-d", "-c", str(path)]

    bare = [sys.executable, str(Path(__file__).resolve()), "--forward"]
    found: dict[str, Callable[[], list[str]] | str] = {"bare": lambda: bare}
    found["dnsdist"] = dnsdist if shutil.which("dnsdist") else "not installed (Debian: dnsdist)"
    found["unbound"] = (
        unbound if os.access("/usr/sbin/unbound", os.X_OK) else "not installed (Debian: unbound)"
    )
    return found


def policy(selectors: int) -> str:
    return allow_names("*.k8s.intra", *(f"host{n}.zone{n % 100}.example" for n in range(selectors - 1)))


def reload_lossless(bench: Bench, agent: AgentProcess) -> str:
    """Reload all selectors five times while queries run; what the loop stood still for, and what was lost."""
    done = threading.Event()
    told: list[str] = []

    def reloads() -> None:
        log = bench.lab.scratch / f"{agent.running.pid}.out"
        for number in range(1, 6):
            began = time.monotonic()
            agent.running.send_signal(signal.SIGHUP)
            while log.read_text().count("policies reloaded") < number and not done.is_set():
                time.sleep(0.02)
            told.append(f"{time.monotonic() - began:.2f} s")
        told.extend(re.findall(r"stood still for ([\d.]+ ms)", log.read_text()))

    thread = threading.Thread(target=reloads)
    thread.start()
    out = ""
    lost = 0
    while thread.is_alive():
        out = bench.perf(DNS, 53, "-q", "64", "-Q", "2000")
        lost += int(re.search(r"Queries lost:\s+(\d+)", out)[1])  # type: ignore[index]
    done.set()
    thread.join()
    return f"read and compiled in {', '.join(told[:5])}; the loop stood still for {', '.join(told[5:])}; {lost} queries lost"


def memory(agent: AgentProcess) -> int:
    """Resident megabytes."""
    with open(f"/proc/{agent.running.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20


def distinct(bench: Bench, agent: AgentProcess) -> str:
    """Memory while every query is for a name never asked before."""
    steps = [f"{memory(agent)} MB"]
    per_step = max(bench.names // 5, 1)
    path = bench.lab.scratch / "distinct"
    for step in range(5):
        path.write_text("".join(f"n{n}.k8s.intra A\n" for n in range(step * per_step, (step + 1) * per_step)))
        argv = ["dnsperf", "-s", DNS, "-d", str(path), "-n", "1", "-c", "4", "-q", "32"]
        bench.lab.must("a", pinned(0, *argv))
        steps.append(f"{memory(agent)} MB at {(step + 1) * per_step}")
    return ", ".join(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--names", type=int, default=100_000, help="distinct names of the memory run")
    parser.add_argument("--forward", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.names < ASKED_FOR:
        parser.error(f"--names {given.names}: the measurements ask for {ASKED_FOR} names")
    if given.forward:
        bare_forwarder(NODE, PORT)
        return
    lacking = missing() or next((f"no {p}" for p in ("dnsperf", "taskset") if not shutil.which(p)), "")
    if lacking or not os.access("/usr/sbin/unbound", os.X_OK):
        print(f"skipped: {lacking or 'no unbound'} (Debian: dnsperf, unbound)")
        return
    with Lab() as lab:
        say("starting the server")
        bench = Bench(lab, given.seconds, given.names)
        say("measuring routed")
        rows: dict[str, tuple[float, float, float, float]] = {"routed": bench.measure(DNS, 53)}
        for name, made in peers(bench).items():
            if isinstance(made, str):
                print(f"{name}: skipped, {made}")
                continue
            with running(bench, made()):
                say(f"measuring {name}")
                rows[name] = bench.measure(NODE, PORT)
        agent = AgentProcess(bench.cluster, "node1", policy(SELECTORS), {"a": "app=web"})
        agent.argv = pinned(1, *agent.argv)
        began = time.monotonic()
        agent.start()
        print(
            f"agent: ready with {SELECTORS} selectors after {time.monotonic() - began:.2f} s, {memory(agent)} MB"
        )
        say("measuring the agent")
        rows["agent"] = bench.measure(DNS, 53)
        bench.new_share = 0
        rows["known only"] = bench.measure(DNS, 53)
        bench.new_share = NEW_SHARE
        peer = rows.get("dnsdist") or rows.get("unbound") or rows["bare"]
        print(
            f"\n1 query in {NEW_SHARE} for a new name (known only: the agent without any); latency at {RATE}/s, or 70 % of the maximum where that is less"
        )
        print(
            f"{'':10}{'queries/s':>11}{'lost %':>8}{'p50 ms':>9}{'p99 ms':>9}{'+p50':>8}{'+p99':>8}{'/ bare':>9}{'/ peer':>9}"
        )
        for name, (rate, lost, p50, p99) in rows.items():
            base = rows["routed"]
            print(
                f"{name:10}{rate:11.0f}{lost:8.2f}{p50:9.3f}{p99:9.3f}{p50 - base[2]:8.3f}{p99 - base[3]:8.3f}"
                f"{rate / rows['bare'][0]:9.2f}{rate / peer[0]:9.2f}"
            )
        print(f"\nreload of {SELECTORS} selectors at 2000 queries/s: {reload_lossless(bench, agent)}")
        print(f"memory over {given.names} distinct names: {distinct(bench, agent)}")
        counts = agent.ask("status")["counts"]
        print(f"counts: {counts}")


if __name__ == "__main__":
    main()
