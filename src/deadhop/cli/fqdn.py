"""``deadhop fqdn``: the DNS-proxy policy agent, what it knows, and recorded lookups replayed."""

from __future__ import annotations

import click

from deadhop.cli.lazy import LazyGroup

EXAMPLES = """\b
Examples:
  sudo deadhop fqdn agent --policy policies/ --endpoint shop/web=netns:web,app=web
  sudo deadhop fqdn cache list -o json
  sudo deadhop fqdn cache clean -f -p 'api.example.com.'
  sudo deadhop fqdn names
  deadhop fqdn replay --policy policies/ --queries hubble.json
"""

PLACES = {
    "agent": "fqdn_agent:agent",
    "cache": "fqdn_cache:cache",
    "names": "fqdn_cache:names",
    "selectors": "fqdn_cache:selectors",
    "replay": "fqdn_replay:replay",
}


@click.group("fqdn", cls=LazyGroup, places=PLACES, epilog=EXAMPLES)
def command() -> None:
    """Egress policy by DNS names for network namespaces, as Cilium's toFQDNs has it."""
