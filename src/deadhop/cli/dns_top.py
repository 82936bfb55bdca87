"""``deadhop dns top``: what a DNS log of any size says."""

from __future__ import annotations

from typing import Any

import click

EXAMPLES = """\b
Examples:
  deadhop dns top coredns.log
  kubectl logs -n kube-system -l k8s-app=kube-dns --tail=-1 | deadhop dns top -
  deadhop dns top hubble-flows.json coredns-*.log.gz -n 20 -o json
"""


@click.command("top", epilog=EXAMPLES)
@click.argument("logs", nargs=-1, required=True, metavar="LOG...",
                type=click.Path(exists=True, dir_okay=False, allow_dash=True))  # fmt: skip
@click.option("-n", "most", type=click.IntRange(1), default=10, show_default=True, help="Rows of each list.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(logs: tuple[str, ...], most: int, output: str) -> int:
    """Clients, names, search-list waste, CNAME-only clients, slow and failing upstreams.

    Reads CoreDNS logs (the log and errors plugins, behind any prefix) and hubble flow JSON, plain or gzip, of any size in
    bounded memory. Exit status: 0 read, 3 no query in it.
    """
    from deadhop.cli.progress import progress
    from deadhop.dns.toplog import tally_paths
    from deadhop.dns.topreport import report

    try:
        with progress("reading") as tick:
            tally = tally_paths(list(logs), tick)
    except OSError as error:
        raise click.UsageError(str(error)) from None
    if not tally.lines and not tally.failing:
        click.echo(
            "no DNS query in it: CoreDNS writes them with the log plugin, hubble with -o json", err=True
        )
        return 3
    found = report(tally, most)
    if output == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _text(found)
    return 0


def _text(found: dict[str, Any]) -> None:
    total = found["queries"]

    def share(n: int) -> str:
        return f"{n:>12,}  {100 * n / total if total else 0:5.1f} %"

    words = ", ".join(f"{k} {n:,}" for k, n in found["rcodes"].items())
    times = found["seconds"]
    click.echo(f"{total:,} queries: {words}")
    if times["p50"] is not None:
        click.echo(f"answered in {times['p50'] * 1000:g} ms (median), {times['p99'] * 1000:g} ms (99 of 100)")
    click.echo("types: " + ", ".join(f"{k} {n:,}" for k, n in found["types"].items()))
    if found["folded"]:
        click.echo(
            f"{found['folded']:,} queries are for names too rare to keep apart: counted under *.their domain"
        )
    click.echo("\nClients")
    for row in found["clients"]:
        click.echo(
            f"{share(row['queries'])}  {row['client']}  (NXDOMAIN {row['nxdomain']:,}, failed {row['failed']:,})"
        )
    click.echo("\nNames")
    for row in found["names"]:
        click.echo(f"{share(row['queries'])}  {row['name']}")
    waste = found["search"]
    click.echo(
        f"\nSearch list: {waste['wasted']:,} queries for nothing, {100 * waste['share_of_nxdomain']:.1f} % of NXDOMAIN"
    )
    for row in waste["suffixes"]:
        click.echo(f"{share(row['queries'])}  + {row['suffix']}")
    if waste["wasted"]:
        saved = waste["saved_by"]
        click.echo("  saved by " + ", ".join(f"ndots:{k} {n:,}" for k, n in saved["ndots"].items() if n)
                   + f"; by a trailing dot in the client {saved['trailing_dot']:,}")  # fmt: skip
        for row in waste["names"]:
            click.echo(f"{share(row['queries'])}  {row['name']}")
    if found["cname_only"]:
        click.echo(
            "\nClients that ask CNAME and never an address (a policy by names learns nothing from them)"
        )
        for row in found["cname_only"]:
            click.echo(f"{share(row['queries'])}  {row['client']}")
    if found["slow"]["queries"]:
        click.echo(
            f"\nSlow: {found['slow']['queries']:,} answers took {found['slow']['from_seconds']:g} s or more"
        )
        for row in found["slow"]["names"]:
            click.echo(f"{share(row['queries'])}  {row['name']}")
    if found["failing"]:
        click.echo("\nFailing upstreams")
        for row in found["failing"]:
            click.echo(f"{row['count']:>12,}  {row['upstream'] or '(not named)'}: {row['error']}")
