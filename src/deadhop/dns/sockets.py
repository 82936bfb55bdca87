"""Datagram sockets with the IP options that DNS faults turn on, and addresses with ports as people write them."""

from __future__ import annotations

import socket

#: include/uapi/linux/in.h and in6.h; Python names none of them.
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
IP_RECVFRAGSIZE = 25
IPV6_RECVFRAGSIZE = 77
IPV6_DONTFRAG = 62
#: IP_MTU_DISCOVER modes (include/uapi/linux/in.h IP_PMTUDISC_*).
MODES = {"dont": 0, "want": 1, "do": 2, "probe": 3, "interface": 4, "omit": 5}


def endpoint(text: str, default_port: int = 53) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """``ADDRESS``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT`` as (family, address). Raises ``ValueError``."""
    host, port = text, str(default_port)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else port if not rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host.partition("%")[0])
        number = int(port)
        if not 0 <= number <= 65535:
            raise ValueError
    except (OSError, ValueError):
        raise ValueError(
            f"{text!r} is no ADDRESS[:PORT] (an IPv6 address with a port is [ADDRESS]:PORT)"
        ) from None
    return family, (host, number)


def shown(address: tuple[str, int]) -> str:
    """The address with its port, as ``endpoint`` reads it."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def udp_socket(family: socket.AddressFamily, mode: str = "want") -> socket.socket:
    """A datagram socket with the given IP_MTU_DISCOVER mode."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, MODES[mode])
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, MODES[mode])
    return made
