"""``deadhop dns serve``: a zone file on UDP and TCP, with faults on demand."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """\b
Examples:
  deadhop dns serve example.zone                                  on 127.0.0.1 port 5300
  deadhop dns serve corp.zone --listen 10.0.0.1:53 --listen '[fd00::1]:53' --df --pad 2351
  deadhop dns serve example.zone --drop-first 1 --delay 0.2      a server that loses and waits
  deadhop dns serve example.zone --no-tc                          oversized UDP answers without TC

\b
A zone file:
  $ORIGIN example.com.
  @    300 IN SOA ns hostmaster 1 3600 600 86400 30
  api   30 IN A   192.0.2.1
"""


@click.command("serve", epilog=EXAMPLES)
@click.argument("zonefile", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--listen", "listen", multiple=True, metavar="ADDRESS[:PORT]", default=("127.0.0.1:5300",),
              show_default=True, help="UDP and TCP; repeat it for more. Port 0 takes a free one.")  # fmt: skip
@click.option("--origin", metavar="NAME", help="The zone's name, where the file does not say it.")
@click.option("--df", is_flag=True, help="DF on every UDP answer, whatever path MTU has been learned.")
@click.option("--pad", type=click.IntRange(0, 65535), default=0, metavar="N",
              help="Fill every answer up to N octets with a TXT record in its additional section.")  # fmt: skip
@click.option(
    "--delay", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Answer so much later."
)
@click.option("--drop-first", type=click.IntRange(0), default=0, metavar="N",
              help="Leave the first N datagrams of each question from each client unanswered.")  # fmt: skip
@click.option("--truncate-at", type=click.IntRange(12, 65535), metavar="N",
              help="No UDP answer above N octets, whatever the client announces.")  # fmt: skip
@click.option("--no-tc", is_flag=True,
              help="Never set TC: the whole answer goes out by UDP, or with --truncate-at a part of it.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No line per query.")
def command(
    zonefile: Path,
    listen: tuple[str, ...],
    origin: str | None,
    df: bool,
    pad: int,
    delay: float,
    drop_first: int,
    truncate_at: int | None,
    no_tc: bool,
    quiet: bool,
) -> int:
    """Serve ZONEFILE authoritatively, with the faults that a reproduction needs, until Ctrl-C or SIGTERM.

    Each query is printed as CoreDNS logs it. Exit status: 0 ended by a signal, 2 the file or an address is wrong.
    """
    import asyncio
    import contextlib
    import signal

    from deadhop.cli.needs import needs

    needs("dns", "dns")
    from deadhop.dns.faults import Faults
    from deadhop.dns.listen import Server
    from deadhop.dns.sockets import endpoint, shown
    from deadhop.wire.zonefile import ZoneError, ZoneFile

    def say(line: str) -> None:
        if not quiet or line.startswith("[ERROR]"):
            click.echo(line)

    try:
        addresses = [endpoint(text) for text in listen]
        zone = ZoneFile(_text(zonefile), str(zonefile), origin)
    except (ValueError, ZoneError) as error:
        raise click.UsageError(str(error)) from None
    faults = Faults(pad=pad, delay=delay, drop_first=drop_first, truncate_at=truncate_at, tc=not no_tc)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = Server(zone, faults, df=df, say=say)
        try:
            await server.start(addresses)
            for bound in server.bound:
                click.echo(f"serving {zone.origin} on {shown(bound)} (udp, tcp)")
            await stop.wait()
        finally:
            server.close()

    try:
        asyncio.run(run())
    except OSError as error:
        raise click.UsageError(f"cannot listen on {error.strerror}") from None
    return 0


def _text(path: Path) -> str:
    """Raises ``UsageError``."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
