"""The agent killed at random moments under load: nothing released is lost, nothing else is let through.

``DEADHOP_KILLS=200`` plays more rounds than the twenty of every run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading

import pytest

from agent.rig import Rig, reply, rig
from deadhop.lab.scenarios._fqdn import DNS
from deadhop.model.dns import RR
from deadhop.wire.build import build_query
from deadhop.wire.dns import read_answer, read_message

pytestmark = pytest.mark.lab
KILLS = int(os.environ.get("DEADHOP_KILLS", "20"))


def address_of(number: int) -> str:
    return f"198.{18 + number // 62500}.{number // 250 % 250}.{number % 250}"


class Load:
    """Two pods that ask one new name after the other; ``released`` is what they were told."""

    def __init__(self, made: Rig) -> None:
        self.made = made
        self.released: dict[str, str] = {}
        self.answered: dict[str, str] = {}
        self.foreign: set[str] = set()
        self.next = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        made.server.handler = self.answer

    def answer(self, query: bytes) -> list[bytes]:
        name = read_message(query).questions[0].name
        number = int(name[1 : name.index(".")])
        ip = address_of(number)
        if name.endswith(".k8s.intra."):
            self.answered[name] = ip
        else:
            self.foreign.add(ip)
        return [reply(query, RR(name, 3600, "A", ip))]

    def ask(self, pod: str) -> None:
        with self.made.cluster.lab.inside(pod):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(0.3)
            sock.connect((DNS, 53))
            while not self._stop.is_set():
                with self._lock:
                    number, self.next = self.next, self.next + 1
                zone = "other.test." if number % 7 == 3 else "k8s.intra."
                name = f"n{number}.{zone}"
                try:
                    sock.send(build_query(number & 0xFFFF, name, 1))
                    told = read_answer(sock.recv(4096))
                except OSError:
                    continue
                if told.query.name == name and told.addresses and zone == "k8s.intra.":
                    self.released[name] = told.ips[0]

    def during(self, seconds: float) -> None:
        """Load, with a kill after ``seconds``."""
        self._stop.clear()
        threads = [threading.Thread(target=self.ask, args=(pod,)) for pod in ("a", "b")]
        for thread in threads:
            thread.start()
        threading.Event().wait(seconds)
        self.made.agent.stop(signal.SIGKILL)
        self._stop.set()
        for thread in threads:
            thread.join()

    def allowed(self) -> set[str]:
        """The addresses that the kernel lets through."""
        out = self.made.cluster.lab.must(
            "node1", ["nft", "-j", "list", "set", "inet", "deadhop_fqdn", "p0_f0_4"]
        )
        found = next(item["set"] for item in json.loads(out)["nftables"] if "set" in item)
        return {str(item["elem"]["val"]) for item in found.get("elem", [])}


def test_killed_at_random_moments() -> None:
    chance = random.Random(20)
    # On a busy machine an answer may leave when the delay is over, before the kernel has it: as Cilium would.
    with rig("--tofqdns-proxy-response-max-delay", "1m") as made:
        load = Load(made)
        for number in range(KILLS):
            load.during(chance.uniform(0.02, 0.35))
            down = load.allowed()
            released = set(load.released.values())
            assert released <= down, f"kill {number}: released and not allowed: {released - down}"
            assert down <= set(load.answered.values()), f"kill {number}: allowed and never answered"
            made.agent.start()
            up = load.allowed()
            assert released <= up, f"restart {number}: released and not allowed: {released - up}"
            assert up <= set(load.answered.values())
            rows = made.agent.ask("cache-list")["rows"]
            assert isinstance(rows, list)
            known = {(row[2], ip) for row in rows for ip in row[5]}
            assert set(load.released.items()) <= known
        assert len(load.released) > KILLS
        assert not load.foreign & load.allowed()
        print(f"{KILLS} kills, {len(load.released)} names released, {load.next} asked")
