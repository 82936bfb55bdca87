"""Small servers that a topology starts in its namespaces, each a module that is run: ``python -m …``.

Each prints ``ready`` once it listens.
"""

from __future__ import annotations

import socket

IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
#: IP_MTU_DISCOVER modes (include/uapi/linux/in.h IP_PMTUDISC_*).
MODES = {"dont": 0, "want": 1, "do": 2, "probe": 3, "interface": 4, "omit": 5}


def endpoint(text: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """``ADDRESS:PORT`` or ``[ADDRESS]:PORT``."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


def udp_socket(family: socket.AddressFamily, mode: str) -> socket.socket:
    """A datagram socket with the given IP_MTU_DISCOVER mode."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, MODES[mode])
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, MODES[mode])
    return made
