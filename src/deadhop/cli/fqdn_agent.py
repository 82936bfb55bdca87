"""``deadhop fqdn agent``: enforce egress policy on network namespaces that are routed through this node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deadhop.agent.config import (
    ENFORCED,
    METRICS_PORT,
    SOCKET,
    STATE,
    ConfigError,
    read_config,
    settings_for,
)
from deadhop.fqdn.options import FLAGS, LATEST, Value, Version

EXAMPLES = """\b
Examples:
  sudo deadhop fqdn agent --policy policy.yaml --endpoint shop/web=netns:web,app=web
  sudo deadhop fqdn agent --policy policies/ --config cilium-config.yaml \\
      --endpoint shop/web=netns:/run/netns/web,app=web \\
      --endpoint kube-system/coredns=ip:10.0.0.2,k8s-app=kube-dns
  sudo kill -HUP PID                               read the policies again
  sudo deadhop fqdn agent --cleanup                take the rules away
"""


def _flags(function: Any) -> Any:
    """Cilium's flags as options; the defaults of other Cilium versions are in docs/agent.md."""
    for name, text in reversed(ENFORCED.items()):
        default = True if name == "dnsproxy-enable-transparent-mode" else FLAGS[name].default(LATEST)
        shown = (
            f"{text} [default: {str(default).lower() if isinstance(default, bool) else default or 'none'}]"
        )
        function = click.option(f"--{name}", name.replace("-", "_"), metavar="VALUE", help=shown)(function)
    return function


@click.command("agent", epilog=EXAMPLES)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A policy file, or a folder of them; may be repeated.",
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="NAME=netns:PATH,LABEL…",
    help="A pod: its namespace and labels. NAME=ip:ADDRESS,LABEL… is a peer elsewhere. May be repeated.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Cilium's flags: the ConfigMap cilium-config, or flag: value lines.",
)
@click.option(
    "--cilium-version",
    default=str(LATEST),
    show_default=True,
    help="Whose behaviour to follow, 1.11 to 1.20.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=STATE,
    show_default=True,
    help="Folder of what survives.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=SOCKET,
    show_default=True,
    help="Unix socket to ask it at.",
)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), default=METRICS_PORT, show_default=True,
    help="Port of /metrics and /healthz on 127.0.0.1; 0 is none.",
)  # fmt: skip
@click.option(
    "--rate-limit", type=click.IntRange(0), default=0, help="Queries a second of one endpoint; 0 is no limit."
)
@click.option("--node-name", "node", default="", help="The node's name in flows. [default: the host name]")
@click.option("--keep-privileges", is_flag=True, help="Do not drop capabilities after set-up.")
@click.option("--cleanup", "--remove", is_flag=True, help="Take the rules and routes away, and end.")
@click.option("--dns-garbage-collector-interval", "gc_interval", type=float, hidden=True)
@_flags
def agent(
    policies: tuple[Path, ...],
    endpoints: tuple[str, ...],
    config: Path | None,
    cilium_version: str,
    state: Path,
    socket: Path,
    metrics_port: int,
    rate_limit: int,
    node: str,
    keep_privileges: bool,
    cleanup: bool,
    gc_interval: float | None,
    **flags: str | None,
) -> int:
    """Enforce CiliumNetworkPolicy egress on pods that are network namespaces routed through this one.

    DNS that policy inspects goes through a proxy; the addresses in its answers are let through before the answer is
    released. Everything else that no rule allows is dropped and counted. The rules stay in force when the agent
    ends, until --cleanup takes them away. Needs Linux and root; SIGHUP reads the policies again.
    """
    _needs_linux_and_root()
    from deadhop.agent import agent as running
    from deadhop.agent.journal import StateError
    from deadhop.agent.policyfile import PolicyRefused

    if cleanup:
        try:
            for line in running.cleanup():
                click.echo(f"removed {line}")
        except running.StartError as error:
            raise click.ClickException(str(error)) from error
        return 0
    if not policies or not endpoints:
        raise click.UsageError("--policy and --endpoint say what to enforce on whom")
    try:
        version = Version.parse(cilium_version)
        given: dict[str, Value] = dict(read_config(config)) if config else {}
        given.update({key.replace("_", "-"): value for key, value in flags.items() if value is not None})
        more = {"dns_gc_interval": gc_interval} if gc_interval else {}
        settings, remarks = settings_for(
            version,
            given,
            policies=policies,
            endpoints=endpoints,
            state=state,
            socket=socket,
            metrics_port=metrics_port,
            rate_limit=rate_limit,
            node=node,
            keep_privileges=keep_privileges,
            **more,
        )
    except (ConfigError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    for remark in remarks:
        running.log(remark, "warning")
    made = running.Agent(settings)
    try:
        made.start()
    except PolicyRefused as refused:
        raise click.UsageError("the policies are refused:\n" + str(refused)) from refused
    except (running.StartError, StateError) as error:
        raise click.ClickException(str(error)) from error
    made.run()
    return 130 if made.interrupted else 0


def _needs_linux_and_root() -> None:
    import os

    if sys.platform != "linux":
        raise click.ClickException("the agent needs Linux")
    if os.geteuid() != 0:
        raise click.ClickException(
            "the agent needs root (CAP_NET_ADMIN, and CAP_SYS_ADMIN to look into namespaces)"
        )
    try:
        import prometheus_client  # noqa: F401
        import pyroute2  # noqa: F401
    except ImportError as error:
        raise click.ClickException(f"{error.name} is missing: pip install 'deadhop[agent]'") from error
