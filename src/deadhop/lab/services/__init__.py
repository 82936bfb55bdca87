"""Small servers that a topology starts in its namespaces, each a module that is run: ``python -m …``.

Each prints ``ready`` once it listens.
"""

from __future__ import annotations

from deadhop.dns.sockets import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, MODES, endpoint, udp_socket

__all__ = ["IPV6_MTU_DISCOVER", "IP_MTU_DISCOVER", "MODES", "endpoint", "udp_socket"]
