"""Five published debugging days, each read as it stands.

The documents are not part of the project: ``DEADHOP_DOCUMENTS`` names their folder. A finding must not hang on names,
ids or addresses, nor on what the sentences say, so each document is also diagnosed renamed and with nonsense for prose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence import read_bytes
from deadhop.model.finding import Diagnosis

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("DEADHOP_DOCUMENTS", ROOT.parent / "shared" / "seeds"))
FOUND = {"cause-found", "likely"}
EXPECTED = {
    "000": ("path-mtu-drops-df-udp-dns-response", FOUND),
    "001": ("benign-healthy-dns-proxy-flow", {"healthy"}),
    "002": ("cname-first-client-poisons-fqdn-cache", FOUND),
    "003": ("host-header-forwarded-breaks-mesh-routing", {"likely"}),
    "004": ("rp-filter-overwritten-by-systemd-sysctl", {"cause-found"}),
}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no documents in {FOLDER} (DEADHOP_DOCUMENTS)")


def document(number: str) -> str:
    return next(FOLDER.glob(f"{number}*")).read_text(encoding="utf-8")


def diagnosed(text: str) -> Diagnosis:
    return diagnose(read_bytes("document.txt", text.encode()), causes.load())


def renamed(text: str) -> str:
    """Hosts, pods, domains, ids, interfaces and addresses under other names; prefixes stay prefixes."""
    words = {
        "microsoftonline": "quuxcloud", "msidentity": "barident", "trafficmanager": "bazmanager", "aadg": "zzag", "akadns": "qxdns", "kube360": "hub720", "k3dash": "p9front",
        "dashboard": "cockpit", "test-hub720-hostname": "site-a", "worker0": "pool7", "cp01": "main9", "node0": "hostq", "coredns-749558f7dd": "coredns-5c9d7b66ff", "w6jdj": "aa1bb",
        "echo.k8s.intra": "mirror.corp.lan", "*.k8s.intra": "*.corp.lan", "633c32ed-5272-4534-bb23-abe7d2ba25bb": "0a1b2c3d-1111-2222-3333-444455556666", "556675": "4242", "4026531992": "4026539999",
        "lxc3c160d6c7aa0": "lxcffeeddccbbaa", "lxc3b28c7d86cd3": "lxc001122334455", "eno1": "enp4s0", "REALM.EXAMPLE.COM": "R.ORG.TEST", "login.": "signin.", "net1-": "tool1-", "net2-": "tool2-",
    }  # fmt: skip
    for old, new in words.items():
        text = text.replace(old, new)
    octets = {"10": "11", "172": "173", "192": "193", "20": "21", "40": "41"}

    def address(match: re.Match[str]) -> str:
        return f"{octets.get(match[1], match[1])}.{match[2]}"

    return re.sub(r"\b(10|172|192|20|40)\.(\d{1,3}\.\d{1,3}\.\d{1,3})\b", address, text)


def nonsense(text: str) -> str:
    """Every sentence replaced by words without meaning; listings stay."""
    evidence = read_bytes("document.txt", text.encode())
    lines = text.split("\n")
    for problem in evidence.problems:
        if problem.kind == "unread":
            last = problem.source.end or problem.source.line
            for i in range(problem.source.line - 1, last):
                if len(lines[i].split()) > 5 and not re.match(r"^\s", lines[i]):
                    lines[i] = "Lorem ipsum dolor sit amet, consectetur adipiscing elit sed do eiusmod."
    return "\n".join(lines)


VARIANTS: dict[str, Callable[[str], str]] = {"as it stands": str, "renamed": renamed, "nonsense": nonsense}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("number", sorted(EXPECTED))
def test_names_the_cause(number: str, variant: str) -> None:
    slug, verdicts = EXPECTED[number]
    diagnosis = diagnosed(VARIANTS[variant](document(number)))
    assert diagnosis.findings, diagnosis.symptoms
    assert diagnosis.findings[0].cause == slug
    assert diagnosis.verdict in verdicts


@pytest.mark.parametrize("number", ["000", "002", "003", "004"])
def test_rules_out_at_least_two_rivals(number: str) -> None:
    diagnosis = diagnosed(document(number))
    assert len(diagnosis.ruled_out) >= 2, [r.cause for r in diagnosis.ruled_out]


def test_the_oversized_answer_is_measured_and_its_fixes_are_proven() -> None:
    diagnosis = diagnosed(document("000"))
    finding = diagnosis.findings[0]
    assert "2379" in finding.title
    assert "1500" in finding.title
    checks = {c.text: c for c in finding.checks}
    assert any("2351" in text for text in checks)
    assert {c.inferred for text, c in checks.items() if "DF" in text or "DNS answer" in text} == {True}
    artifacts = "\n".join(f.artifact for f in finding.fixes)
    assert "AWS_VPC_ENI_MTU" in artifacts
    assert "force_tcp" in artifacts
    assert finding.fixes[0].status == "proven"
    assert any("race" in f.note for f in finding.fixes)
    assert any("tcpdump" in n.command for n in diagnosis.next)
    assert any("ip route get" in n.command for n in diagnosis.next)


def test_reachability_by_node_and_the_changed_record() -> None:
    diagnosis = diagnosed(document("001"))
    rows = {(r.from_, r.epoch): r.disposition for r in diagnosis.reachability if "new address" not in r.to}
    assert rows["net1-cp01", "observed"] == rows["net2-cp01", "observed"] == "delivered"
    assert rows["net1-worker02", "observed"] == "dropped"
    assert rows["net2-cp01", "if the record changes"] == "delivered"
    assert rows["net1-worker02", "if the record changes"] == "dropped"


def test_the_gateway_is_told_from_the_shell() -> None:
    finding = diagnosed(document("002")).findings[0]
    assert "172.16.128.101" in finding.subject
    assert "login.microsoftonline.com" in finding.subject
    assert "KONG_DNS_ORDER" in finding.fixes[0].artifact
    assert finding.fixes[0].status == "proven"


def test_the_run_by_hand_is_another_fault() -> None:
    diagnosis = diagnosed(document("003"))
    finding = diagnosis.findings[0]
    text = " ".join(finding.contradictions)
    assert "service-port-mismatch" in text
    assert "1.26" in text
    assert any("kubectl get svc" in n.command for n in diagnosis.next)
    assert any("istio-proxy" in n.command for n in diagnosis.next)


def test_both_drop_ins_and_the_route_are_judged() -> None:
    diagnosis = diagnosed(document("004"))
    finding = diagnosis.findings[0]
    status = {f.title.split(",")[0]: f.status for f in finding.fixes}
    assert status["A route per pod"] == "proven"
    assert [f.status for f in finding.fixes if "alone" in f.title] == ["conditional"]
    both = next(f for f in finding.fixes if "conf.all" in f.title)
    assert both.status == "proven"
    assert "net.ipv4.conf.all.rp_filter = 0" in both.artifact
    assert any(n.command == "sysctl net.ipv4.conf.all.rp_filter" for n in diagnosis.next)
    assert any("no IPv4 address" in c.text and c.holds for c in finding.checks)
