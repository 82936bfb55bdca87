"""A topology's services as processes of its lab, each ready before the next step begins."""

from __future__ import annotations

import sys

from deadhop.lab.topology.made import Lab
from deadhop.model.topology import Service, Topology

_MODULE = {"dns": "dns", "http": "http", "udp-echo": "udp_echo"}


def start(lab: Lab, topology: Topology) -> None:
    """Raises :class:`~deadhop.lab.topology.made.LabError` where a service ends before it is ready."""
    for service in topology.services:
        if service.kind == "command":
            lab.start(service.in_, service.command, service.ready)
        else:
            lab.start(service.in_, _argv(service), r"^ready$")


def _argv(service: Service) -> list[str]:
    argv = [sys.executable, "-m", f"deadhop.lab.services.{_MODULE[service.kind]}", service.listen]
    if service.kind == "dns":
        argv += [str(service.records), service.pmtudisc]
    elif service.kind == "udp-echo":
        argv += [str(service.size), service.pmtudisc]
    return argv
