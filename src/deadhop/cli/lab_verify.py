"""``deadhop lab verify``: the Linux model against the running kernel."""

from __future__ import annotations

import sys
from typing import Any

import click

from deadhop.cli.sigterm import end_on_sigterm


@click.command(
    "verify",
    epilog="\b\nExamples:\n  sudo deadhop lab verify --random 300 --seed 7\n  sudo deadhop lab verify --kind nft --random 50",
)
@click.option(
    "--random",
    "count",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="How many random topologies.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="The first topology's seed; the others follow."
)
@click.option(
    "--kind", "kinds", multiple=True, help="Only these kinds (fib, rpf, mtu, nft, v6, nat); may be repeated."
)
@click.option("--no-shrink", is_flag=True, help="Print a disagreement as it was found.")
def verify(count: int, seed: int, kinds: tuple[str, ...], no_shrink: bool) -> int:
    """Build random topologies, send real packets, and compare what the kernel did with what the model says.

    Needs Linux and root. Nothing outside the namespaces that it makes is touched, and they are gone at the end.
    """
    from deadhop.lab import verify as lab

    unknown = set(kinds) - set(lab.KINDS)
    if unknown:
        raise click.BadParameter(
            f"no kind {', '.join(sorted(unknown))}; there are {', '.join(lab.KINDS)}", param_hint="--kind"
        )
    end_on_sigterm()

    def progress(number: int, report: Any) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(
                f"\r{number} of {count} topologies, {report.packets} packets, {report.disagreements} disagreements "
            )

    try:
        report = lab.verify(count, seed, kinds=kinds or lab.KINDS, shrinking=not no_shrink, progress=progress)
    except lab.CannotVerify as error:
        raise click.ClickException(f"lab verify {error}") from None
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    share = report.unknown / report.packets if report.packets else 0.0
    click.echo(
        f"{report.topologies} topologies, {report.packets} packets: {report.disagreements} disagreements, {report.unknown} unknown ({share:.2%})"
    )
    for what, times in report.covered.most_common():
        click.echo(f"  {times:>7}  {what}")
    for note in (
        *report.notes,
        *(f"unknown {times} times: {what}" for what, times in report.unknowns.most_common(8)),
    ):
        click.echo(note)
    for scenario in report.scenarios:
        click.echo(f"\n{scenario}")
    return 1 if report.disagreements else 0
