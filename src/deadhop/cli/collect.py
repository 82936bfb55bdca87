"""``deadhop collect``: live evidence into a folder or an archive."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

EXAMPLES = """\b
Examples:
  sudo deadhop collect node                              into deadhop-HOST-TIME.tar.gz
  sudo deadhop collect node -o evidence/ --capture 10
  sudo deadhop collect node -o node.tar.gz --pod 4711 --pod cni-5e1f
  deadhop diagnose node.tar.gz
"""


@click.group("collect", epilog=EXAMPLES)
def command() -> None:
    """Write evidence that `deadhop diagnose` and `deadhop path` read. Nothing is changed."""


@command.command("node", epilog=EXAMPLES)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A folder, or an archive (.tar.gz, .tgz, .tar.zst).  [default: deadhop-HOST-TIME.tar.gz]",
)
@click.option(
    "--pod",
    "pods",
    multiple=True,
    metavar="PID|NETNS",
    help="Only this pod beside the host: a process id, a name in /run/netns or a path; may be repeated.",
)
@click.option(
    "--capture", "seconds", type=click.FloatRange(0, 3600), default=0.0, metavar="SECONDS",
    help="Capture packets first, in every namespace at once. Payload is left out but for DNS and ICMP.",
)  # fmt: skip
def node(output: Path | None, pods: tuple[str, ...], seconds: float) -> int:
    """Collect this node: links, addresses, routes, rules, neighbours, sysctls and their files, nftables, iptables of
    both backends, connections, counters, the kernel's log, resolv.conf, qdiscs and offloads, for the host and every
    network namespace that can be entered.

    Secrets are redacted, processes' environments are never read. What could not be read is in manifest.json with the
    reason. Works without root as far as the kernel lets it.
    """
    from deadhop.cli.sigterm import end_on_sigterm
    from deadhop.collect import pack
    from deadhop.collect.discover import NoNamespace
    from deadhop.collect.node import Manifest, collect

    if sys.platform != "linux":
        raise click.UsageError("collect node reads a Linux node; this is none")
    end_on_sigterm()
    target = output or _default()
    archive = target.name.endswith(pack.ENDINGS)

    def progress(text: str) -> None:
        click.echo(text, err=True)

    def gather(folder: Path) -> Manifest:
        try:
            return collect(folder, pods, capture_seconds=seconds, progress=progress)
        except NoNamespace as error:
            raise click.UsageError(str(error)) from None

    try:
        if archive:
            pack.check(target)
            with tempfile.TemporaryDirectory(prefix="deadhop-") as scratch:
                manifest = gather(Path(scratch))
                pack.pack(Path(scratch), target)
        else:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            manifest = gather(target)
    except pack.CannotPack as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{target}: {error.strerror or error}") from None
    names = ", ".join(manifest.namespaces)
    click.echo(f"{target}: {len(manifest.namespaces)} namespaces ({names})")
    reasons: dict[str, list[str]] = {}
    for missed in manifest.missing:
        reasons.setdefault(missed.why, []).append(missed.file)
    for why, files in reasons.items():
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        click.echo(f"  not read: {', '.join(files[:3])}{more}: {why}")
    click.echo(f"next: deadhop diagnose {target}")
    return 0


def _default() -> Path:
    import os
    from datetime import datetime

    return Path(f"deadhop-{os.uname().nodename}-{datetime.now():%Y%m%d-%H%M%S}.tar.gz")
