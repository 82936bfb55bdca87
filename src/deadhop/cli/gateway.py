"""``deadhop gateway``: the reverse proxy, and where its routes lead in the mesh."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

RUN = """\b
Examples:
  deadhop gateway run gateway.yaml
  deadhop gateway run gateway.yaml --check-only

\b
A configuration:
  listen: 0.0.0.0:8080
  upstreams:
    dashboard: {url: http://dashboard.ops.svc.cluster.local}
  routes:
    - host: portal.example.com
      upstream: dashboard
"""
CHECK = """\b
Examples:
  deadhop gateway check gateway.yaml --cluster bundle.tar.gz
  deadhop gateway check nginx.conf ingress.yaml --cluster objects.yaml --from ops/portal-0
"""


@click.group("gateway")
def command() -> None:
    """A reverse proxy that sends each upstream its own Host, and the check of any proxy's routes against a mesh."""


@command.command("run", epilog=RUN)
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--check-only", is_flag=True, help="Read the configuration, say what is wrong, and end.")
def run(config: Path, check_only: bool) -> int:
    """Serve CONFIG (YAML) until SIGTERM or Ctrl-C; what is under way may finish.

    Needs the extra deadhop[gateway]. SIGHUP reopens the access log. Exit status: 0, 1 where it cannot listen, 2 for a
    configuration that is wrong.
    """
    from deadhop.evidence.checked_yaml import ShapeError
    from deadhop.gateway import config as settings

    try:
        read = settings.read(config)
    except (ShapeError, OSError) as error:
        click.echo(str(error), err=True)
        return 2
    for text in settings.warnings(read):
        click.echo(f"{config}: warning: {text}", err=True)
    if check_only:
        click.echo(f"{config}: {len(read.routes)} routes to {len(read.upstreams)} upstreams")
        return 0
    try:
        from deadhop.gateway.run import serve
    except ImportError as error:
        click.echo(f"the gateway needs {error.name}: pip install 'deadhop[gateway]'", err=True)
        return 3
    try:
        return serve(read)
    except ShapeError as error:
        click.echo(str(error), err=True)
        return 2
    except OSError as error:
        click.echo(f"cannot listen: {error}", err=True)
        return 1


@command.command("check", epilog=CHECK)
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG|nginx.conf|ingress.yaml...")
@click.option("--cluster", multiple=True, required=True, metavar="EVIDENCE", help="Objects of the cluster.")
@click.option("--from", "source", metavar="NAMESPACE/POD", help="The proxy's pod; found by itself where it can be.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to answer.")
@click.pass_context
def check(
    ctx: click.Context, configs: tuple[str, ...], cluster: tuple[str, ...], source: str | None, output: str
) -> int:
    """For each route: which Host reaches the upstream, and where Envoy sends it.

    Reads the gateway's own configuration, nginx configuration and Ingress objects. Exit status: 0 every route arrives,
    1 a route breaks, 3 the evidence does not say.
    """
    from deadhop.evidence.checked_yaml import ShapeError
    from deadhop.evidence.documents import NoEvidence
    from deadhop.gateway.check import check_routes, text

    try:
        answers = check_routes(configs, cluster, source)
    except (NoEvidence, ShapeError, LookupError, OSError) as error:
        raise click.UsageError(str(error.args[0] if error.args else error), ctx) from None
    if output == "json":
        _json({"schema": 1, "routes": answers})
    else:
        for line in text(answers):
            click.echo(line)
    if any(a["verdict"] == "breaks" for a in answers):
        return 1
    return 3 if any(a["verdict"] == "unknown" for a in answers) or not answers else 0


def _json(value: Any) -> None:
    import msgspec

    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
