"""``deadhop fqdn cache``, ``names`` and ``selectors``: what an agent knows, in the formats of ``cilium-dbg``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deadhop.fqdn.formats import CacheRow

SOCKET = Path("/run/deadhop/fqdn.sock")

_socket = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=SOCKET,
    show_default=True,
    help="The agent's unix socket.",
)
_state = click.option(
    "--state",
    type=click.Path(exists=True, path_type=Path),
    help="Read an agent's state folder, or a file in it, instead of asking a running agent.",
)


def ask(socket: Path, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The agent's answers; a missing agent is an error for people."""
    from deadhop.agent.api import NotRunning
    from deadhop.agent.api import ask as send

    try:
        yield from send(socket, request)
    except NotRunning as error:
        raise click.ClickException(f"{error}. Is it running? (--socket, --state)") from error
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error


@click.group("cache")
def cache() -> None:
    """List or clean the FQDN cache."""


def _rows(socket: Path, state: Path | None, *, every_node: bool) -> list[CacheRow]:
    from deadhop.agent.api import row_from_json

    if state is not None:
        from deadhop.agent.offline import cache_rows

        return cache_rows(state, every_node=every_node)
    (answer,) = ask(socket, {"cmd": "cache-list", "global": every_node})
    return [row_from_json(item) for item in answer["rows"]]


@cache.command(
    "list",
    epilog="\b\nExamples:\n  deadhop fqdn cache list -e 1 -p '*.example.com'\n  deadhop fqdn cache list -s connection -o json",
)
@click.option("-e", "--endpoint", type=int, help="Only this endpoint's id.")
@click.option(
    "-p", "--matchpattern", "pattern", default="", help="Only names that match, in matchPattern's form."
)
@click.option(
    "-s", "--source", type=click.Choice(["lookup", "connection", "global"]), help="Only this source."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json.")
@_socket
@_state
def cache_list(
    endpoint: int | None, pattern: str, source: str | None, output: str, socket: Path, state: Path | None
) -> None:
    """List names with their addresses: by lookups, and by connections that outlive them."""
    from deadhop.fqdn.formats import cache_list as table
    from deadhop.fqdn.formats import cache_list_json
    from deadhop.fqdn.options import LATEST
    from deadhop.fqdn.patterns import PatternError, compile_pattern, sanitize

    rows = _rows(socket, state, every_node=source == "global")
    if source != "global":
        try:
            wanted = compile_pattern(sanitize(pattern, LATEST), LATEST) if pattern else None
        except PatternError as error:
            raise click.UsageError(str(error)) from error
        rows = [
            row
            for row in rows
            if (endpoint is None or row.endpoint == endpoint)
            and (source is None or row.source == source)
            and (wanted is None or wanted.matches(row.fqdn))
        ]
    if output == "json":
        click.echo(cache_list_json(rows))
    else:
        click.echo("\n".join(table(rows, _local_offset())))


def _local_offset() -> Any:
    from datetime import datetime

    return datetime.now().astimezone().utcoffset()


@cache.command(
    "clean",
    epilog="\b\nExamples:\n  deadhop fqdn cache clean -f\n  deadhop fqdn cache clean -p 'api.example.com.'   (with the final dot, as in Cilium)",
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "-p", "--matchpattern", "pattern", default="", help="Only names that match; written with the final dot."
)
@_socket
def cache_clean(force: bool, pattern: str, socket: Path) -> None:
    """Forget names. What an open connection uses stays usable for it."""
    from deadhop.fqdn.formats import CACHE_CLEAN_PROMPT, EMPTY_CACHE_CLEAN
    from deadhop.fqdn.formats import cache_list as table
    from deadhop.fqdn.options import LATEST
    from deadhop.fqdn.patterns import PatternError, compile_pattern

    try:
        wanted = compile_pattern(pattern, LATEST) if pattern else None
    except PatternError as error:
        raise click.UsageError(str(error)) from error
    if not force:
        rows = [r for r in _rows(socket, None, every_node=False) if wanted is None or wanted.matches(r.fqdn)]
        click.echo(CACHE_CLEAN_PROMPT)
        click.echo("\n".join(table(rows, _local_offset())))
        click.confirm("Continue?", abort=True)
    for _ in ask(socket, {"cmd": "cache-clean", "pattern": pattern}):
        click.echo(EMPTY_CACHE_CLEAN)


@click.command(
    "names", epilog="\b\nExamples:\n  sudo deadhop fqdn names | jq '.FQDNPolicySelectors[].regexString'"
)
@_socket
@_state
def names(socket: Path, state: Path | None) -> None:
    """The toFQDNs selectors in force with their regular expressions, as JSON."""
    from deadhop.fqdn.formats import fqdn_names
    from deadhop.fqdn.options import Version
    from deadhop.fqdn.selectors import FQDNSelector

    if state is not None:
        from deadhop.agent.offline import selectors as saved

        rows, version = saved(state)
        listed = [_selector(row.selector) for row in rows]
    else:
        (answer,) = ask(socket, {"cmd": "names"})
        listed = [FQDNSelector(*pair) for pair in answer["names"]]
        version = Version.parse(answer["version"])
    click.echo(fqdn_names(listed, version))


def _selector(text: str) -> Any:
    from deadhop.fqdn.selectors import FQDNSelector

    name, _, pattern = text.removeprefix("MatchName: ").partition(", MatchPattern: ")
    return FQDNSelector(name, pattern)


@click.command(
    "selectors",
    epilog="\b\nExamples:\n  sudo deadhop fqdn selectors -v\n  sudo deadhop fqdn selectors -o json",
)
@click.option("-v", "--verbose", is_flag=True, help="Every label of the rules.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json.")
@_socket
@_state
def selectors(verbose: bool, output: str, socket: Path, state: Path | None) -> None:
    """The toFQDNs selectors in force with their users and identities."""
    import msgspec

    from deadhop.fqdn.formats import SelectorRow, policy_selectors, policy_selectors_json
    from deadhop.fqdn.options import Version

    if state is not None:
        from deadhop.agent.offline import selectors as saved

        rows, version = saved(state)
    else:
        (answer,) = ask(socket, {"cmd": "selectors"})
        rows = [msgspec.convert(item, SelectorRow) for item in answer["selectors"]]
        version = Version.parse(answer["version"])
    if output == "json":
        click.echo(policy_selectors_json(rows))
    else:
        sys.stdout.write("\n".join(policy_selectors(rows, version, verbose=verbose)) + "\n")
