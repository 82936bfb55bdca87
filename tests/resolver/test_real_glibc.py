"""The glibc profile against the C library of this machine, talking to our own server in a private namespace."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deadhop.hops.resolver import GLIBC, Ask, Reply, conf_from_options, resolve
from deadhop.model.dns import RR

CASES = [
    f"{rcode}:{name}"
    for rcode in ("NXDOMAIN", "NODATA", "REFUSED", "SERVFAIL", "NOTIMP")
    for name in ("api.example.com", "gone.example.com", "gone.example.com.")
]

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"),
        reason="needs root, unshare and ip",
    ),
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"),
]


def test_the_questions_are_the_same(tmp_path: Path) -> None:
    script = Path(__file__).with_name("real_glibc.py")
    command = ["unshare", "--mount", "--net", sys.executable, str(script), str(tmp_path), *CASES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode and "not permitted" in done.stderr:
        pytest.skip("namespaces are not permitted here")
    assert done.returncode == 0, done.stderr
    search = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    conf = conf_from_options(["127.0.0.1"], search, ["ndots:5", "timeout:1", "attempts:2"])
    for case, real in json.loads(done.stdout).items():
        word, _, name = case.partition(":")

        def answering(ask: Ask, word: str = word) -> Reply:
            if ask.name == "api.example.com.":
                data = "192.0.2.7" if ask.type == "A" else "2001:db8::7"
                return Reply(answers=(RR(ask.name, 30, ask.type, data),))
            return Reply("NOERROR" if word == "NODATA" else word)

        ours = resolve(GLIBC, conf, name, answering)[0]
        assert [list(q) for q in ours.questions] == real["questions"], case
        assert (sorted(ours.told.addresses) or [ours.told.error]) == real["told"], case
