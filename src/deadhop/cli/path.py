"""``deadhop path``: flows through the model, one answer line per flow line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

EPILOG = """\b
Examples:
  deadhop path node-evidence/ --flows flows.jsonl
  echo '{"id":"1","kind":"packet","netns":"node","in_dev":"eth0","src":"10.0.0.9","dst":"10.1.0.4",
         "proto":"udp","sport":53,"dport":4000,"length":2379,"df":true}' | deadhop path evidence/ --flows -
  echo '{"id":"2","kind":"connection","from":"shop/web-0","to":"http://cart:8080/"}' \\
    | deadhop path cluster.yaml --flows -
"""


@click.command("path", epilog=EPILOG)
@click.argument("evidence", nargs=-1, required=True, metavar="EVIDENCE...")
@click.option(
    "--flows",
    "flows",
    type=click.File("rb"),
    required=True,
    help="Flow lines (JSON), or - for standard input.",
)
@click.option("-o", "--output", type=click.Choice(["jsonl", "text"]), default="jsonl", help="How to answer.")
@click.pass_context
def command(ctx: click.Context, evidence: tuple[str, ...], flows: Any, output: str) -> int:
    """Walk flows through the model without diagnosing.

    EVIDENCE holds one folder per network namespace (ip-addr.json, ip-route.json, sysctl.txt, nft.json…) for packet
    flows, and Kubernetes and Istio objects for connection flows; where it also holds a proxy's config_dump, what the
    proxy runs decides.
    """
    import msgspec

    from deadhop.evidence.documents import NoEvidence

    try:
        walker = _Walker(evidence)
    except NoEvidence as error:
        raise click.UsageError(str(error), ctx) from None
    encode = msgspec.json.Encoder().encode
    bad = 0
    write = sys.stdout.buffer.write
    for number, line in enumerate(flows, 1):
        if not line.strip():
            continue
        try:
            answer = walker.answer(line)
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError, UnicodeDecodeError) as error:
            bad += 1
            click.echo(f"{getattr(flows, 'name', 'flows')}:{number}: {error}", err=True)
            answer = {
                "id": _id(line),
                "disposition": "unknown",
                "hop": "",
                "reason": f"not a flow: {error}",
                "out_dev": None,
                "next_hop": None,
                "icmp": None,
                "answer": None,
                "steps": [],
            }
        write(encode(answer) + b"\n" if output == "jsonl" else ("\n".join(_text(answer)) + "\n\n").encode())
    sys.stdout.flush()
    return 2 if bad else 0


def _id(line: bytes) -> str:
    import msgspec

    try:
        value = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return ""
    return str(value.get("id", "")) if isinstance(value, dict) else ""


class _Walker:
    """The worlds of the evidence, each built when the first flow asks for it."""

    def __init__(self, evidence: tuple[str, ...]) -> None:
        from deadhop.evidence.namespace.folders import folders

        self.paths = list(evidence)
        self.namespaces, self.problems = folders(evidence)
        self.by_name: dict[str, Any] = {}
        for folder in self.namespaces:
            parent = folder.path.rpartition("/")[0].rpartition("/")[2]
            self.by_name[f"{parent}\0{folder.name}"] = folder.namespace
            self.by_name.setdefault(folder.name, folder.namespace)
        self.cluster: Any = None
        self.wiring: Any = None
        for problem in self.problems:
            click.echo(f"{problem.source}: {problem.kind}: {problem.text}", err=True)

    def answer(self, line: bytes) -> dict[str, Any]:
        import msgspec

        value = msgspec.json.decode(line)
        kind = value.get("kind") if isinstance(value, dict) else None
        if kind == "packet":
            return self._packet(value)
        if kind == "connection":
            from deadhop.hops.connection import walk_connection
            from deadhop.model.connection import ConnectionFlow

            return walk_connection(self._cluster(), msgspec.convert(value, ConnectionFlow))
        raise ValueError(f"kind is {kind!r}, not packet or connection")

    def _packet(self, value: dict[str, Any]) -> dict[str, Any]:
        import msgspec

        from deadhop.hops.linux.walk import walk_packet
        from deadhop.model.packet import PacketFlow

        flow = msgspec.convert(value, PacketFlow)
        scope = value.get("scope") or ("namespace" if flow.in_dev or flow.netns else "world")
        if scope not in ("namespace", "world"):
            raise ValueError(f"scope is {scope!r}, not namespace or world")
        if scope == "world" and (start := self._start(flow)):
            from deadhop.hops.linux.across import walk_across

            return walk_across(self._wiring(), start, flow).line(flow.id)
        namespace = self.by_name.get(f"{flow.node}\0{flow.netns}") or self.by_name.get(
            flow.netns or flow.node or ""
        )
        if namespace is None and not flow.netns and len(self.namespaces) == 1:
            namespace = self.namespaces[0].namespace
        if namespace is None:
            names = ", ".join(sorted({f.name for f in self.namespaces})[:8]) or "none"
            raise ValueError(f"no namespace {flow.netns or flow.node!r} in the evidence (there are: {names})")
        return walk_packet(namespace, flow).line(flow.id)

    def _wiring(self) -> Any:
        if self.wiring is None:
            from deadhop.hops.linux.across import Wiring

            self.wiring = Wiring({self._key(f): f.namespace for f in self.namespaces})
        return self.wiring

    def _key(self, folder: Any) -> str:
        """A namespace's name; with its node's in front where several nodes have one of that name."""
        twins = sum(1 for f in self.namespaces if f.name == folder.name)
        return folder.name if twins == 1 else "/".join(folder.path.split("/")[-2:])

    def _start(self, flow: Any) -> str:
        """Where a packet begins: its ``netns``, else the namespace that has its source address."""
        from deadhop.model import ip

        for folder in self.namespaces:
            node = folder.path.rpartition("/")[0].rpartition("/")[2]
            if flow.netns and folder.name == flow.netns and flow.node in (None, node):
                return self._key(folder)
        try:
            source = ip.parse(flow.src)
        except ValueError:
            return ""
        found = [
            f
            for f in self.namespaces
            if any(ip.parse(a.local) == source for a in f.namespace.addresses or ())
        ]
        return self._key(found[0]) if len(found) == 1 and not flow.netns else ""

    def _cluster(self) -> Any:
        if self.cluster is None:
            from deadhop.evidence import read
            from deadhop.hops.cluster import Cluster
            from deadhop.hops.mesh.api import ProxyConfig
            from deadhop.model.observed.kube import KubeObject
            from deadhop.model.observed.proxy import ProxyDump, ProxyResource
            from deadhop.snapshot.proxies import by_proxy

            records = read(self.paths).records
            objects = [r for r in records if isinstance(r, KubeObject)]
            states = by_proxy(
                [r for r in records if isinstance(r, ProxyDump)],
                [r for r in records if isinstance(r, ProxyResource)],
                [f"{o.namespace or 'default'}/{o.name}" for o in objects if o.kind == "Pod"],
            )
            proxies = {owner: ProxyConfig.of(state) for owner, state in states.items()}
            self.cluster = Cluster.of(objects, proxies)
        return self.cluster


def _text(answer: dict[str, Any]) -> Iterator[str]:
    end = f"{answer['id']}: {answer['disposition']}" + (
        f" in {answer['netns']}" if answer.get("netns") else ""
    )
    out = answer["out_dev"]
    if out:
        end += f" out of {out} via {answer['next_hop']}"
    if answer["reason"]:
        end += f" ({answer['reason']})"
    if answer["icmp"]:
        icmp = answer["icmp"]
        end += f", ICMP {icmp['type']}/{icmp['code']}" + (f" mtu {icmp['mtu']}" if icmp.get("mtu") else "")
    if answer["answer"]:
        end += f", status {answer['answer'].get('status')} {','.join(answer['answer'].get('flags') or ())}"
    yield end
    place = ""
    for step in answer["steps"]:
        if step.get("netns", "") != place:
            place = step["netns"]
            yield f"  {place}"
        sign = {True: "·", False: "✗", None: "?"}[step.get("ok")]
        yield f"  {sign} {step['text']}"
