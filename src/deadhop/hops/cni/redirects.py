"""Programs that take a packet from one device to another where no route says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Redirect(NamedTuple):
    """What leaves by a device of prefix ``egress`` for an address behind a device of prefix ``to`` is handed there."""

    egress: str
    to: str
    cni: str
    function: str
    reference: str


REDIRECTS: tuple[Redirect, ...] = (
    Redirect(
        "cilium_host", "lxc", "Cilium", "cil_from_host", "cilium bpf/bpf_host.c, bpf/lib/local_delivery.h"
    ),
)


def redirect(dev: str, devices: list[str], holds: Callable[[str], bool]) -> tuple[Redirect, str] | None:
    """The program that takes a packet leaving by ``dev``, and the device it hands it to; None where none does.

    ``devices`` are those of the namespace; ``holds`` tells whether the pod behind a device has the packet's address.
    """
    for row in REDIRECTS:
        if dev.startswith(row.egress):
            found = [name for name in devices if name.startswith(row.to) and name != dev and holds(name)]
            if len(found) == 1:
                return row, found[0]
    return None
