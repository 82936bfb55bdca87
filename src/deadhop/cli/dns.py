"""``deadhop dns``: tools for DNS as it is: a server for reproductions, a check of servers, a warmer, a log reader."""

from __future__ import annotations

import click

from deadhop.cli.lazy import LazyGroup

EXAMPLES = """\b
Examples:
  deadhop dns check api.example.com
  deadhop dns check CORP.EXAMPLE.COM --server 10.96.0.10      a Kerberos realm
  deadhop dns warm _kerberos._udp.corp.example.com --type SRV --tcp
  deadhop dns serve example.zone --listen 127.0.0.1:5300 --pad 2351 --df
  kubectl logs -n kube-system -l k8s-app=kube-dns --tail=-1 | deadhop dns top -
"""

#: Subcommand name to its one-line help. The module ``deadhop.cli.dns_<name>`` has a click command ``command``.
COMMANDS = {
    "check": "Ask every server by every transport, and say what would break.",
    "warm": "Keep a name in a server's cache without a gap.",
    "serve": "Serve a zone file, with faults on demand.",
    "top": "Clients, names, search-list waste and slow upstreams of DNS logs.",
}


@click.group(
    "dns",
    cls=LazyGroup,
    places={name: f"dns_{name}:command" for name in COMMANDS},
    lines=COMMANDS,
    epilog=EXAMPLES,
)
def command() -> None:
    """DNS tools: check servers, keep a cache warm, serve a zone with faults, read query logs."""
