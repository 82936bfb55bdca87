"""Who answers a question: CoreDNS from its Corefile, plugin by plugin, and how large the answer is on the wire.

``corefile`` reads the text, ``serve`` picks the server block and walks its plugins in CoreDNS's own order, ``plugins``
and ``kubernetes`` hold what each of them answers, ``size`` what the transport leaves of the answer.
"""

from __future__ import annotations

from deadhop.hops.dns.corefile import Corefile, Directive, ServerBlock, parse_corefile
from deadhop.hops.dns.plugins import Client, KubeService, Served, World
from deadhop.hops.dns.serve import serve
from deadhop.hops.dns.size import Delivery, deliver

__all__ = [
    "Client",
    "Corefile",
    "Delivery",
    "Directive",
    "KubeService",
    "Served",
    "ServerBlock",
    "World",
    "deliver",
    "parse_corefile",
    "serve",
]
