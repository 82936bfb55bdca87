"""``dns warm``: ten minutes of a modelled cache in simulated time, and a real CoreDNS with short TTLs."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from deadhop.cli import group
from deadhop.dns.keep import Keeper
from deadhop.dns.probe import PLAIN, TCP, Ask, probe
from deadhop.dns.warm import Entry

from .served import coredns, coredns_binary, served

TRIP = 0.002


class Cache:
    """CoreDNS' cache (plugin/cache ``item.ttl``, ``shouldPrefetch``) with an upstream a round trip away."""

    def __init__(self, ttl: int, prefetch: bool) -> None:
        self.ttl, self.prefetch = ttl, prefetch
        self.stored = -1e9
        self.ready = -1e9
        self.misses = 0

    def ask(self, now: float, client: bool) -> int:
        """The TTL that the answer shows."""
        if self.ready > self.stored and now >= self.ready:
            self.stored = self.ready
        left = self.ttl - int(now - self.stored)
        if left > 0:
            if self.prefetch and left <= -(-self.ttl // 10) and self.ready <= self.stored:
                self.ready = now + TRIP
            return left
        self.misses += client
        self.ready = self.ready if self.ready > now else now + TRIP
        return self.ttl


def play(
    cache: Cache, asks: Callable[[Cache, float], float], client_period: float, seconds: float = 600
) -> int:
    """Clients at a fixed pace with an odd phase, the warmer when it wants; the misses of the clients after the first TTL."""
    client, warmer = 0.0137, 0.0
    while min(client, warmer) < seconds:
        if warmer <= client:
            warmer = asks(cache, warmer)
        else:
            cache.ask(client, client > 1.0)
            client += client_period
    return cache.misses


def learning(entry: Entry) -> Callable[[Cache, float], float]:
    def asks(cache: Cache, now: float) -> float:
        ttl = cache.ask(now, False)
        came = now + TRIP
        entry.answered(now, came, ttl)
        return max(came, entry.next_at(came))

    return asks


def fixed(period: float) -> Callable[[Cache, float], float]:
    def asks(cache: Cache, now: float) -> float:
        cache.ask(now, False)
        return now + period

    return asks


@pytest.mark.parametrize("ttl", [5, 30, 300])
@pytest.mark.parametrize("seed", range(4))
def test_ten_minutes_without_a_miss_where_the_cache_prefetches(ttl: int, seed: int) -> None:
    entry = Entry(random.Random(seed))
    # A client that asks too seldom to make the cache prefetch for itself.
    assert play(Cache(ttl, prefetch=True), learning(entry), 7.31) == 0
    assert entry.behaviour == "prefetch"


@pytest.mark.parametrize("seed", range(4))
def test_without_prefetch_the_gap_is_a_round_trip_and_not_a_period(seed: int) -> None:
    entry = Entry(random.Random(seed))
    ours = play(Cache(30, prefetch=False), learning(entry), 0.1)
    theirs = play(Cache(30, prefetch=False), fixed(7.0), 0.1)
    assert theirs >= 15, "a fixed period meets nearly every end of the entry late"
    assert ours <= 2
    assert entry.behaviour == "plain"
    assert entry.gaps < 0.02 * max(1, entry.refreshed)


def test_what_answers_teach() -> None:
    entry = Entry(random.Random(1))
    assert entry.next_at(5.0) == 5.0
    assert entry.answered(5.0, 5.001, 20).word == "first"
    assert (entry.earliest, entry.latest) == (24.0, 25.001)
    assert entry.answered(15.2, 15.201, 10).word == "held"
    assert entry.earliest == pytest.approx(24.2)
    assert 22 < entry.next_at(15.3) < 24, "in the last tenth"
    assert entry.answered(23.0, 23.001, 20).word == "prefetched"
    assert entry.failed(30.0).word == "failed"
    assert 30.1 < entry.next_at(30.0) <= 30.2
    assert entry.answered(45.0, 45.01, 0).word == "stale"
    assert entry.answered(45.1, 45.11, 20).word in ("prefetched", "refreshed")


def test_manifest() -> None:
    result = CliRunner().invoke(
        group, ["dns", "warm", "CORP.TEST", "a.test", "--server", "10.96.0.10", "--manifest"]
    )
    assert result.exit_code == 0
    (container,) = yaml.safe_load(result.output)
    script = container["args"][0]
    assert "SRV:_kerberos._udp.corp.test. " in script
    assert "A:a.test." in script
    assert "dig +tcp" in script
    subprocess.run(["sh", "-n", "-c", script], check=True)


ZONE = "$ORIGIN test.\n@ 9 SOA ns h 1 1 1 1 1\n*.plain 3 A 192.0.2.1\n*.ahead 3 A 192.0.2.2\n*.stale 3 A 192.0.2.3\n"
COREFILE = """
plain.test:PORT {
    bind 127.0.0.1
    cache 30
    forward . 127.0.0.1:UPSTREAM
}
ahead.test:PORT {
    bind 127.0.0.1
    cache 30 {
        prefetch 1 1m 10%
    }
    forward . 127.0.0.1:UPSTREAM
}
stale.test:PORT {
    bind 127.0.0.1
    cache 30 {
        serve_stale 1h
    }
    forward . 127.0.0.1:UPSTREAM
}
"""


@pytest.mark.skipif(not coredns_binary(), reason="no CoreDNS here: scripts/build-coredns makes one")
def test_a_real_coredns_stays_warm(tmp_path: Path) -> None:
    """CoreDNS passes a question on by the transport it came by, and prefetches over TCP: what reaches the upstream by
    UDP is a client's cold miss."""
    with (
        served(ZONE) as up,
        coredns(coredns_binary(), COREFILE.replace("UPSTREAM", str(up.port)), tmp_path) as cd,
    ):
        server = f"127.0.0.1:{cd.port}"
        ours = [("a.plain.test.", "A"), ("a.ahead.test.", "A"), ("a.stale.test.", "A")]
        keeper = Keeper(ours, [server], TCP, lambda *_: None)
        stop = threading.Event()

        def every(name: str, period: float, over_tcp: bool) -> None:
            while not stop.wait(period):
                probe(Ask(name, "A", server, TCP if over_tcp else PLAIN), 2.0)

        keeper.start()
        probe(Ask("b.plain.test.", "A", server, TCP), 2.0)
        fixed_period = threading.Thread(target=every, args=("b.plain.test.", 1.3, True))
        threads = [fixed_period]
        try:
            while not all(e.ttl for e in keeper.entries.values()):
                stop.wait(0.01)
            threads += [
                threading.Thread(target=every, args=(name, 0.05, False))
                for name in ("a.plain.test.", "b.plain.test.", "a.ahead.test.", "a.stale.test.")
            ]
            for thread in threads:
                thread.start()
            stop.wait(10.0)
        finally:
            stop.set()
            for thread in threads:
                if thread.ident:
                    thread.join()
            keeper.stop()
        cold = {name: up.asked("udp").count(f"A {name}") for name in
                ("a.plain.test.", "b.plain.test.", "a.ahead.test.", "a.stale.test.")}  # fmt: skip
        behaviours = {ask.name: entry.behaviour for ask, entry in keeper.entries.items()}
        print(cold, behaviours, {a.name: (e.gaps, e.refreshed) for a, e in keeper.entries.items()})
        assert cold["a.ahead.test."] == cold["a.stale.test."] == 0
        assert behaviours["a.ahead.test."] == "prefetch"
        assert cold["b.plain.test."] >= 1, "a fixed period leaves the entry out for up to a period"
        assert cold["a.plain.test."] <= cold["b.plain.test."]
        assert behaviours["a.plain.test."] == "plain"


def test_the_command_ends_on_sigterm_and_says_what_it_kept() -> None:
    with served() as at:
        command = [
            sys.executable,
            "-m",
            "deadhop",
            "dns",
            "warm",
            "short.corp.test",
            "--server",
            f"127.0.0.1:{at.port}",
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert "short.corp.test. A @127.0.0.1" in process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.communicate()[0]
        assert process.returncode == 0
        assert "brought back" in rest
        assert set(at.asked("tcp")) == {"A short.corp.test."}
        assert not at.asked("udp")


def test_no_server_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        result = CliRunner().invoke(
            group, ["dns", "warm", "a.test", "--server", where, "--for", "0.3"], standalone_mode=False
        )
        assert result.return_value == 3
