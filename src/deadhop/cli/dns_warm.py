"""``deadhop dns warm``: names kept in the servers' caches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deadhop.dns.probe import Ask
    from deadhop.dns.warm import Entry, Told

EXAMPLES = """\b
Examples:
  deadhop dns warm api.example.com --server 10.96.0.10
  deadhop dns warm _kerberos._udp.corp.example.com _kerberos._tcp.corp.example.com --type SRV --tcp
  deadhop dns warm api.example.com --server kube-dns-headless.kube-system.svc.cluster.local
  deadhop dns warm CORP.EXAMPLE.COM --manifest > sidecar.yaml
"""


@click.command("warm", epilog=EXAMPLES)
@click.argument("names", nargs=-1, required=True, metavar="NAME|REALM...")
@click.option("--type", "rtype", metavar="TYPE", help="The record type. [default: A; SRV for a realm]")
@click.option("--server", "servers", multiple=True, metavar="IP[:PORT]|NAME",
              help="Repeat it for more; a name stands for all of its addresses. [default: those of resolv.conf]")  # fmt: skip
@click.option("--tcp/--udp", "tcp", default=True, show_default=True, help="The transport.")
@click.option("--for", "seconds", type=click.FloatRange(0), metavar="SECONDS", help="End after so long.")
@click.option("--manifest", is_flag=True, help="Print a sidecar that does it with dig, and end.")
def command(
    names: tuple[str, ...],
    rtype: str | None,
    servers: tuple[str, ...],
    tcp: bool,
    seconds: float | None,
    manifest: bool,
) -> int:
    """Keep NAMEs in the caches of DNS servers without a gap, until Ctrl-C.

    Learns how long an entry has left and whether the cache prefetches, and asks where that leaves no gap: in the last
    tenth of the TTL and around its end. A cache without prefetch keeps a gap of a round trip to its upstream, which is
    printed. Nothing is changed but what the caches hold. Exit status: 0, or 3 where no server ever answered.
    """
    import contextlib
    import signal
    import threading

    from deadhop.dns import kerberos
    from deadhop.dns.keep import Keeper
    from deadhop.dns.manifest import sidecar
    from deadhop.dns.probe import PLAIN, TCP
    from deadhop.model.dns import type_number
    from deadhop.wire.names import write_name

    questions: list[tuple[str, str]] = []
    for name in names:
        realm = rtype is None and kerberos.looks_like_realm(name)
        questions += kerberos.questions(name) if realm else [(name.rstrip(".") + ".", (rtype or "A").upper())]
    try:
        for name, kind in questions:
            type_number(kind)
            write_name(name)
        if manifest:
            click.echo(sidecar(questions, servers, tcp), nl=False)
            return 0
        addresses = _addresses(servers)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    lock = threading.Lock()
    shown: dict[Ask, str] = {}

    def say(ask: Ask, entry: Entry, told: Told) -> None:
        state = f"{told.word == 'failed'} {entry.behaviour} {entry.ttl}"
        with lock:
            if shown.get(ask) != state or told.word == "refreshed":
                shown[ask] = state
                click.echo(f"{ask.name} {ask.type} @{ask.server}: {_words(entry, told)}")

    keeper = Keeper(questions, addresses, TCP if tcp else PLAIN, say)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):
            signal.signal(number, lambda *_: stop.set())
    keeper.start()
    try:
        stop.wait(seconds)
    finally:
        keeper.stop()
    gaps = sum(e.gaps for e in keeper.entries.values())
    ends = sum(e.refreshed for e in keeper.entries.values())
    click.echo(f"{ends} entries ended and were brought back, without them for {gaps * 1000:.0f} ms in all")
    return 0 if any(e.ttl for e in keeper.entries.values()) else 3


def _words(entry: Entry, told: Told) -> str:
    if told.word == "failed":
        return "no usable answer; asked again"
    if told.word == "refreshed":
        return f"ended and brought back within {told.gap * 1000:.1f} ms; `prefetch` in the server's cache would leave no gap"
    kept = {"prefetch": "the cache prefetches: no gap", "stale": "the cache serves stale data: no gap"}
    return f"TTL {entry.ttl}; {kept.get(entry.behaviour, 'kept')}"


def _addresses(servers: tuple[str, ...]) -> list[str]:
    """Every address to ask. Raises ``ValueError``."""
    import socket
    from pathlib import Path

    from deadhop.cli.dns_check import _nameservers
    from deadhop.dns.sockets import endpoint

    found: list[str] = []
    for server in servers or _nameservers(Path("/etc/resolv.conf")):
        try:
            endpoint(server)
            found.append(server)
        except ValueError:
            try:
                infos = socket.getaddrinfo(server, 53, type=socket.SOCK_STREAM)
            except OSError as error:
                raise ValueError(f"--server {server}: {error.strerror}") from None
            found += sorted({str(info[4][0]) for info in infos})
    return found
