"""Options of the agent at work, and its way of talking to nftables."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.rig import IP, NAME, OTHER, rig
from agent.test_parts import WEB, core
from deadhop.agent.elements import Command, Elements
from deadhop.agent.flows import FlowLog
from deadhop.agent.journal import Journal
from deadhop.agent.loop import Loop
from deadhop.agent.nft import CommandNft, LibNft, Nft, NftError
from deadhop.agent.proxy import Allowed, Proxy
from deadhop.agent.ruleset import LONGEST_LEASE, TABLE, replace
from deadhop.agent.stats import Stats
from deadhop.agent.worker import Worker
from deadhop.fqdn.answers import MessageDetails
from deadhop.lab.scenarios._fqdn import addresses
from deadhop.lab.verify.netns import Netns
from deadhop.model.dns import RR, Message, Question
from deadhop.wire.build import build_query, write_message

pytestmark = pytest.mark.lab


def in_namespace(work: Callable[[], None]) -> None:
    """Run in a thread that stays in a namespace of its own; threads that it starts are in there, too."""
    failed: list[BaseException] = []
    home = Netns()

    def run() -> None:
        try:
            with home.inside():
                work()
        except BaseException as error:
            failed.append(error)

    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        home.close()
    if failed:
        raise failed[0]


def test_dns_without_an_agent_where_that_is_wanted() -> None:
    """``dns-policy-unload-on-shutdown``: DNS whose rule is ``*`` passes after a graceful end."""
    with rig("--dns-policy-unload-on-shutdown", "true") as made:
        assert made.agent.stop() == 0
        assert addresses(made.cluster.ask("a", NAME)) == [IP]
        assert not made.cluster.reaches("a", IP), "nothing is learned"


def test_a_cache_to_begin_with(tmp_path: Path) -> None:
    entry = {
        "fqdn": NAME,
        "lookup-time": "2099-01-01T00:00:00Z",
        "expiration-time": "2100-01-01T00:00:00Z",
        "ttl": 3600,
        "ips": [IP],
    }
    path = tmp_path / "pre.json"
    path.write_text(json.dumps([entry]))
    with rig("--tofqdns-pre-cache", str(path)) as made:
        assert made.cluster.connects("a", IP)
        assert not made.cluster.reaches("a", OTHER)


def test_interrupted() -> None:
    with rig() as made:
        made.cluster.ask("a", NAME)
        assert made.agent.stop(signal.SIGINT) == 130
        assert made.cluster.connects("b", IP), "the rules stay"


@pytest.mark.parametrize("make", [LibNft, CommandNft])
def test_both_ways_to_nftables(make: Callable[[], Nft]) -> None:
    def work() -> None:
        nft = make()
        made = core()
        made.learn(1, MessageDetails(qname=NAME, response=True, ttl=30, ips=(IP,)), time.time())
        held = made.arrange(time.time())
        nft.run(replace(made.plan, port=1053, counters={"policy_denied": (7, 420)}, elements=held))
        counters = {
            c["counter"]["name"]: c["counter"]["packets"]
            for c in nft.query(f"list counters table inet {TABLE}")
        }
        assert counters["policy_denied"] == 7
        listed = nft.query(f"list set inet {TABLE} p0_f0_4")
        (element,) = next(item["set"] for item in listed if "set" in item)["elem"]
        assert element["elem"]["val"] == IP
        assert 60 < element["elem"]["timeout"] <= 211
        with pytest.raises(NftError, match=r"No such file|Could not process"):
            nft.run(f"delete element inet {TABLE} p0_f0_4 {{ 192.0.2.1 }}\n")
        with pytest.raises(NftError, match="syntax error"):
            nft.run("add rubbish\n")

    in_namespace(work)


MANY = tuple((f"198.18.{n >> 8}.{n & 255}", 60.0 + n) for n in range(5000))
SIX = (("2001:db8::1", 30.4), ("2001:db8::2", 1e9))


@pytest.mark.parametrize("make", [LibNft, CommandNft])
def test_elements_come_and_go(make: Callable[[], Nft]) -> None:
    def timeouts(nft: Nft, name: str) -> dict[str, int]:
        listed = nft.query(f"list set inet {TABLE} {name}")
        elements = [e["elem"] for item in listed if "set" in item for e in item["set"].get("elem", ())]
        return {e["val"]: e["timeout"] for e in elements}

    def work() -> None:
        nft = make()
        nft.run(replace(core().plan, port=1053, counters={}, elements={}))
        nft.change((Command("add", "p0_f0_4", MANY), Command("add", "p0_f0_6", SIX)))
        assert timeouts(nft, "p0_f0_4") == {ip: int(seconds) for ip, seconds in MANY}
        assert timeouts(nft, "p0_f0_6") == {"2001:db8::1": 31, "2001:db8::2": LONGEST_LEASE}
        nft.change((Command("delete", "p0_f0_4", MANY[:4999]), Command("add", "p0_f0_4", MANY[:1])))
        assert set(timeouts(nft, "p0_f0_4")) == {MANY[0][0], MANY[-1][0]}
        absent = Command("delete", "p0_f0_4", (("192.0.2.9", 0.0),))
        with pytest.raises(NftError, match="No such file"):
            nft.change((Command("add", "p0_f0_4", MANY), absent, Command("add", "p0_f0_6", SIX)))
        assert set(timeouts(nft, "p0_f0_4")) == {MANY[0][0], MANY[-1][0]}, "all of it or nothing"
        with pytest.raises(NftError, match="No such file"):
            nft.change((Command("add", "no_such_set", SIX),))
        nft.change((Command("delete", "p0_f0_6", SIX),))
        assert not timeouts(nft, "p0_f0_6"), "after a refusal the next change is taken"

    in_namespace(work)


def test_one_refused_change_does_not_take_others_with_it() -> None:
    def work() -> None:
        nft = LibNft()
        made = core()
        nft.run(replace(made.plan, port=1053, counters={}, elements={}))
        told: list[tuple[str, str]] = []
        everything = threading.Event()

        def done(name: str) -> Callable[[str], None]:
            def tell(error: str) -> None:
                told.append((name, error))
                if len(told) == 3:
                    everything.set()

            return tell

        blocked = threading.Event()

        def hold(_nft: Nft) -> str:
            blocked.wait()
            return ""

        worker = Worker(nft, lambda action: action())
        worker.apply(hold)
        worker.apply((Command("add", "p0_f0_4", (("192.0.2.1", 60.0),)),), done("first"))
        worker.apply((Command("delete", "p0_f0_4", (("192.0.2.9", 0.0),)),), done("bad"))
        worker.apply((Command("add", "p0_f0_4", (("192.0.2.2", 60.0),)),), done("last"))
        blocked.set()
        everything.wait()
        worker.close()
        assert [(name, bool(error)) for name, error in told] == [
            ("first", False),
            ("bad", True),
            ("last", False),
        ]
        listed = nft.query(f"list set inet {TABLE} p0_f0_4")
        held = {e["elem"]["val"] for item in listed if "set" in item for e in item["set"]["elem"]}
        assert held == {"192.0.2.1", "192.0.2.2"}

    in_namespace(work)


class Held:
    """Real nftables that waits until it is let go."""

    def __init__(self) -> None:
        self.inner = LibNft()
        self.go = threading.Event()
        self.applied = False

    def run(self, text: str) -> None:
        self.go.wait()
        self.inner.run(text)

    def change(self, commands: Elements) -> None:
        self.go.wait()
        self.inner.change(commands)
        self.applied = True

    def query(self, text: str) -> list[dict[str, Any]]:
        return self.inner.query(text)


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_waits_for_the_kernel_and_no_longer_than_the_delay(tmp_path: Path, late: bool) -> None:
    def work() -> None:
        made = core()
        nft = Held()
        nft.inner.run(replace(made.plan, port=1053, counters={}, elements={}))
        failures: list[object] = []
        loop = Loop(failures.append)
        stats = Stats()
        journal = Journal(tmp_path)
        journal.start()
        worker = Worker(nft, loop.post)
        proxy = Proxy(made, loop, worker, journal, FlowLog(made, "n"), stats, set_failed=failures.append)
        query = build_query(7, NAME, 1)
        message = Message(
            id=7, response=True, questions=(Question(NAME, "A"),), answers=(RR(NAME, 30, "A", IP),)
        )
        data = write_message(message)
        endpoint = made.by_ip[WEB.addresses[0]]
        allowed = Allowed(endpoint, ("10.0.0.2", 53), MessageDetails(qname=NAME, qtypes=(1,)), query[12:])
        released: list[tuple[bytes, bool]] = []

        def release(body: bytes) -> None:
            released.append((body, nft.applied))
            assert b"lookup" in max(tmp_path.glob("journal-*.jsonl")).read_bytes(), "the journal has it"
            loop.stop()

        loop.post(lambda: proxy.answer(allowed, ("10.0.0.5", 1), "UDP", data, release))
        if not late:
            loop.after(0.0, nft.go.set)
        loop.run()
        nft.go.set()
        worker.close()
        journal.close()
        assert released == [(data[2:], not late)]
        assert stats.count["update_timeouts"] == int(late)
        assert failures == []

    in_namespace(work)
