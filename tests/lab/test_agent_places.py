"""The places of outstanding queries: each is given back once, whatever becomes of the query."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.rig import NAME
from agent.test_parts import WEB, core
from deadhop.agent.flows import FlowLog
from deadhop.agent.journal import Journal
from deadhop.agent.loop import Loop
from deadhop.agent.nft import LibNft
from deadhop.agent.proxy import Allowed, Proxy
from deadhop.agent.sockets import Answers
from deadhop.agent.stats import Stats
from deadhop.agent.udp import UdpProxy
from deadhop.agent.worker import Worker
from deadhop.fqdn.answers import MessageDetails
from deadhop.wire.build import build_query

from .test_agent_options import in_namespace

pytestmark = pytest.mark.lab


def test_a_server_whose_port_is_closed(tmp_path: Path) -> None:
    """The ICMP error of one query is what the next one's send() fails with."""

    def work() -> None:
        subprocess.run(["ip", "addr", "add", WEB.addresses[0], "dev", "lo"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        made = core()
        failures: list[BaseException] = []
        loop, stats, journal, answers = Loop(failures.append), Stats(), Journal(tmp_path), Answers()
        worker = Worker(LibNft(), loop.post)
        try:
            proxy = Proxy(made, loop, worker, journal, FlowLog(made, "n"), stats, set_failed=print)
            udp = UdpProxy(proxy, [], answers, transparent=False)
            query = build_query(7, NAME, 1)
            endpoint = made.by_ip[WEB.addresses[0]]
            details = MessageDetails(qname=NAME, qtypes=(1,))
            allowed = Allowed(endpoint, ("127.0.0.1", 53), details, query[12:])
            for _ in range(3):
                assert proxy.takes(endpoint.id)
                udp._forward(allowed, query, (WEB.addresses[0], 40000))
            loop.end_of_round.append(lambda: loop.stop() if proxy.outstanding <= 0 else None)
            loop.run()
        finally:
            worker.close()
            answers.close()
            journal.close()
            loop.close()
        assert proxy.outstanding == 0
        assert (stats.count["forwarded"], stats.count["upstream_errors"], stats.count["timeouts"]) == (
            2,
            3,
            0,
        )
        assert failures == []

    in_namespace(work)
