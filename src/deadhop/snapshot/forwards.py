"""``kubectl port-forward`` into a pod, and the calls through it: on which port of the pod something answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from deadhop.evidence.fields import host_port
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.shell import CommandRun

_PORTS = re.compile(r"^(?P<local>\d{1,5})?:?(?P<remote>\d{1,5})$")
_LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")


class Forwarded(NamedTuple):
    """A port of a pod that answered through a port-forward, with the two records that show it."""

    port: int
    run: CommandRun
    answer: HttpExchange


def forwarded(runs: Iterable[CommandRun], exchanges: Iterable[HttpExchange]) -> list[Forwarded]:
    """Ports of pods that answered. A forward to a Service is left out: its remote port is the Service's."""
    local: dict[int, tuple[int, CommandRun]] = {}
    for run in runs:
        if "port-forward" not in run.argv or any(
            a.startswith(("svc/", "service/", "services/")) for a in run.argv
        ):
            continue
        for word in run.argv[run.argv.index("port-forward") + 1 :]:
            if match := _PORTS.match(word):
                remote = int(match["remote"])
                local[int(match["local"] or remote)] = (remote, run)
    return [
        Forwarded(*local[e.port], e)
        for e in exchanges
        if e.status is not None and e.port in local and host_port(e.dialled or e.host)[0] in _LOCAL
    ]
