"""The command line: one file per command, imported only when it is called."""

from __future__ import annotations

import os
import sys

import click

from deadhop import __version__
from deadhop.cli.lazy import LazyGroup

#: Command name to its one-line help. The module ``deadhop.cli.<name>`` has a click command ``command``.
COMMANDS: dict[str, str] = {
    "diagnose": "Find the hop where a connection dies, from whatever evidence there is.",
    "path": "Walk flows through the model without diagnosing.",
    "explain": "Explain a cause, a drop reason or a kernel function.",
    "causes": "List the knowledge base.",
    "demo": "Diagnose five cases whose evidence ships with deadhop.",
    "eval": "Diagnose labelled incidents and print what was hit and missed.",
    "drops": "Watch the packets that the running kernel drops.",
    "ktrace": "Trace packets through the kernel's functions, or compare two traces.",
    "fqdn": "Egress policy by DNS names for network namespaces.",
    "dns": "DNS tools: check servers, keep a cache warm, serve a zone with faults, read query logs.",
    "observe": "Flows of the agent or of recordings, as hubble observe shows them.",
    "lab": "Faults made real in network namespaces; the model against the running kernel.",
    "collect": "Write evidence of this node and its pods.",
    "gateway": "A reverse proxy that gets Host right, and the check of any proxy's routes.",
    "mesh": "What breaks under STRICT or REGISTRY_ONLY; the mesh model against the real Envoy.",
    "completion": "Print a completion script for your shell.",
    "version": "Print the version.",
}


EXAMPLES = """\b
Examples:
  deadhop diagnose bundle.tar.gz          a colleague's bundle
  kubectl describe pod web | deadhop diagnose -
  deadhop explain rp-filter-overwritten-by-systemd-sysctl
"""


@click.group(
    cls=LazyGroup,
    places={name: f"{name}:command" for name in COMMANDS},
    lines=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)
@click.version_option(__version__, "-V", "--version", prog_name="deadhop")
def group() -> None:
    """deadhop finds the hop where a Kubernetes connection dies, shows the evidence, and proves the fix before
    anyone applies it."""


def main() -> None:
    """The console script. Exit status: 0 healthy, 1 findings, 2 usage, 3 insufficient, 4 internal error, 130
    interrupted."""
    name = "kubectl deadhop" if os.path.basename(sys.argv[0]).startswith("kubectl") else "deadhop"
    try:
        sys.exit(group.main(prog_name=name, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("DEADHOP_DEBUG"):
            raise
        print(f"deadhop: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("Set DEADHOP_DEBUG=1 for the traceback, and please report it.", file=sys.stderr)
        sys.exit(4)
