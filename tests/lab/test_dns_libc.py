"""The glibc and musl profiles against the real libraries: every question with its transport, and what the caller is told."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deadhop.hops.resolver import GLIBC, MUSL, MUSL_1_2_4, Ask, Profile, Reply, conf_from_options, resolve
from deadhop.model.dns import RR
from dns_tools.real_libc import KNOWN

HERE = Path(__file__).parents[1] / "dns_tools"
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"),
        reason="needs root, unshare and ip",
    ),
]
SEARCH = ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local")
NAMES = ("api.example.com", "gone.example.com", "gone.example.com.", "short")
ONE, TWO = ("127.0.0.1",), ("127.0.0.1", "127.0.0.2")


def case(
    name: str,
    words: dict[str, str] | str,
    servers: tuple[str, ...] = ONE,
    search: tuple[str, ...] = SEARCH,
    options: str = "",
) -> dict[str, Any]:
    text = "".join(f"nameserver {s}\n" for s in servers)
    text += f"search {' '.join(search)}\n" if search else ""
    # A word twice: glibc takes the last, musl the first.
    attempts = "" if "attempts:" in options else "attempts:2 "
    options = f"timeout:1 {attempts}{options}".strip()
    told = dict.fromkeys(servers, words) if isinstance(words, str) else words
    return {"name": name, "words": told, "servers": servers, "search": search, "options": options,
            "resolv": f"{text}options {options}\n"}  # fmt: skip


CASES = [
    *(case(name, word, options="ndots:5") for word in ("NXDOMAIN", "NODATA", "SERVFAIL") for name in NAMES),
    *(case(name, word) for word in ("NXDOMAIN", "NODATA", "SERVFAIL") for name in NAMES),
    *(case(name, word, search=SEARCH[:1], options="ndots:2 attempts:1") for word in ("REFUSED", "NOTIMP", "FORMERR", "TIMEOUT")
      for name in ("gone.example.com", "a.gone")),
    *(case("api.example.com", {"127.0.0.1": word, "127.0.0.2": "OK"}, TWO, options="attempts:1")
      for word in ("SERVFAIL", "REFUSED", "NOTIMP", "NXDOMAIN", "NODATA", "TIMEOUT")),
    *(case("gone.example.com", {"127.0.0.1": word, "127.0.0.2": "NXDOMAIN"}, TWO, search=(), options="attempts:1")
      for word in ("SERVFAIL", "REFUSED", "NODATA")),
    *(case("gone.example.com", "SERVFAIL", TWO, search=(), options=f"attempts:{n}") for n in (1, 3)),
    case("api.example.com", "TC"),
    case("api.example.com", "TC-A"),
    case("api.example.com", "TC-AAAA"),
    case("api.example.com", "TC", options="single-request"),
    case("api.example.com", "TC-A", options="single-request"),
    case("api.example.com", "TC-AAAA", options="single-request"),
    case("api.example.com", "OK", options="use-vc"),
    case("gone.example.com", "NXDOMAIN", options="use-vc"),
    case("api.example.com", "OK", options="single-request"),
    case("api.example.com", "OK", options="single-request-reopen"),
    case("gone.example.com", "SERVFAIL", TWO, search=(), options="single-request"),
    case("api.example.com", "OK", options="no-aaaa"),
    case("api.example.com", "OK", TWO, options="rotate"),
    case("api.example.com", "OK", options="edns0"),
    case("short", "NXDOMAIN", search=("a.test", "."), options="ndots:2"),
    case("short", "NXDOMAIN", options="ndots:0"),
    case("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", "NXDOMAIN", search=("x.test",), options="ndots:20"),
    case("gone.example.com", "NXDOMAIN", search=tuple(f"d{n}.test" for n in range(9)), options="ndots:5"),
]  # fmt: skip


def real(program: str, cases: list[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
    (place / "cases.json").write_text(json.dumps(cases))
    command = [
        "unshare",
        "--mount",
        "--net",
        sys.executable,
        str(HERE / "real_libc.py"),
        program,
        str(place),
        str(place / "cases.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "not permitted" in done.stderr:
        pytest.skip("namespaces are not permitted here")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def modelled(profile: Profile, one: dict[str, Any]) -> dict[str, Any]:
    conf = conf_from_options(one["servers"], one["search"], one["options"].split())

    def answering(ask: Ask) -> Reply:
        word = one["words"][ask.server]
        if word == "TIMEOUT":
            return Reply("TIMEOUT")
        if word in ("TC", f"TC-{ask.type}") and ask.transport == "udp":
            return Reply("NOERROR" if ask.name == KNOWN else "NXDOMAIN", truncated=True)
        if ask.name == KNOWN and (word in ("NXDOMAIN", "NODATA", "OK") or word.startswith("TC")):
            return Reply(
                answers=(RR(KNOWN, 30, ask.type, "192.0.2.7" if ask.type == "A" else "2001:db8::7"),)
            )
        return Reply(
            {
                "NODATA": "NOERROR",
                "OK": "NXDOMAIN",
                "TC": "NXDOMAIN",
                "TC-A": "NXDOMAIN",
                "TC-AAAA": "NXDOMAIN",
            }.get(word, word)
        )

    lookup = resolve(profile, conf, one["name"], answering)[0]
    return {
        "sent": [[s.name, s.type, s.transport, s.server] for s in lookup.sent],
        "told": sorted(set(lookup.told.addresses)) or [lookup.told.error],
    }


def compare(
    profile: Profile, cases: list[dict[str, Any]], found: list[dict[str, Any]], ordered: bool
) -> None:
    differ = []
    for one, seen in zip(cases, found, strict=True):
        ours = modelled(profile, one)
        if "rotate" in one["options"] and ordered:
            # glibc begins at a server of its choice (``nameserver_offset``).
            for side in (seen, ours):
                side["sent"] = [question[:3] for question in side["sent"]]
        sent = (seen["sent"], ours["sent"]) if ordered else (sorted(seen["sent"]), sorted(ours["sent"]))
        if not ordered and len(one["servers"]) > 1:
            # musl asks all servers at once: whether a SERVFAIL is asked again before another's answer is chance.
            sent = tuple(sorted({tuple(q) for q in side}) for side in sent)
        if sent[0] != sent[1] or seen["told"] != ours["told"]:
            differ.append(f"{one['name']} {one['words']} search {one['search']} options {one['options']}\n"
                          f"  real  {seen['told']} {seen['sent']}\n  model {ours['told']} {ours['sent']}")  # fmt: skip
    assert not differ, "\n".join(differ)


ASK = """#!{python}
import socket, sys
words = {{getattr(socket, n): n for n in ("EAI_NONAME", "EAI_NODATA", "EAI_AGAIN", "EAI_FAIL")}}
try:
    for info in socket.getaddrinfo(sys.argv[1], None, type=socket.SOCK_STREAM):
        print(info[4][0])
except socket.gaierror as error:
    print(words.get(error.errno, error.errno))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_glibc(tmp_path: Path) -> None:
    program = tmp_path / "ask"
    program.write_text(ASK.format(python=sys.executable))
    program.chmod(0o755)
    compare(GLIBC, CASES, real(str(program), CASES, tmp_path), ordered=True)


@pytest.mark.skipif(not shutil.which("musl-gcc"), reason="no musl-gcc (Debian's musl-tools)")
def test_musl(tmp_path: Path) -> None:
    program = str(tmp_path / "helper")
    subprocess.run(["musl-gcc", "-static", "-o", program, str(HERE / "getaddrinfo.c")], check=True)
    loader = next(iter(Path("/lib").glob("ld-musl-*.so.1")), None)
    said = subprocess.run([str(loader)], capture_output=True, text=True).stderr if loader else ""
    version = re.search(r"Version (\d+)\.(\d+)\.(\d+)", said)
    newer = bool(version) and tuple(map(int, version.groups())) >= (1, 2, 4)  # type: ignore[union-attr]
    compare(MUSL_1_2_4 if newer else MUSL, CASES, real(program, CASES, tmp_path), ordered=False)
