"""``deadhop fqdn``: the DNS-proxy policy agent, what it knows, and recorded lookups replayed."""

from __future__ import annotations

from importlib import import_module

import click

EXAMPLES = """\b
Examples:
  sudo deadhop fqdn agent --policy policies/ --endpoint shop/web=netns:web,app=web
  sudo deadhop fqdn cache list -o json
  sudo deadhop fqdn cache clean -f -p 'api.example.com.'
  sudo deadhop fqdn names
  deadhop fqdn replay --policy policies/ --queries hubble.json
"""

#: Subcommand name to its module and attribute.
COMMANDS: dict[str, tuple[str, str]] = {
    "agent": ("fqdn_agent", "agent"),
    "cache": ("fqdn_cache", "cache"),
    "names": ("fqdn_cache", "names"),
    "selectors": ("fqdn_cache", "selectors"),
    "replay": ("fqdn_replay", "replay"),
}


class _Lazy(click.Group):
    """Subcommands live in modules of their own, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        loaded = getattr(import_module(f"deadhop.cli.{module}"), attribute)
        assert isinstance(loaded, click.Command)
        return loaded


@click.group("fqdn", cls=_Lazy, epilog=EXAMPLES)
def command() -> None:
    """Egress policy by DNS names for network namespaces, as Cilium's toFQDNs has it."""
