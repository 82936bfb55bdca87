"""The commands as a person or a script meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deadhop import causes
from deadhop.cli import COMMANDS, group
from deadhop.report.redact import MARK, clean
from scenario import cases

EVENT = 'Warning  Unhealthy  kubelet  Readiness probe failed: Get "http://10.244.2.9:9000/healthz": dial tcp 10.244.2.9:9000: connect: connection refused\n'


def run(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(group, list(args), input=stdin, standalone_mode=False)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_standard_input_and_exit_status() -> None:
    result = run("diagnose", "-", stdin=EVENT)
    assert result.return_value == 1
    assert "app-not-listening" in result.output
    assert run("diagnose", "-", stdin="Dear all, nothing works since Monday. Any idea?\n").return_value == 3


@pytest.mark.parametrize("output", ["json", "html", "sarif", "junit", "text"])
def test_every_report_is_made(output: str, tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text(EVENT)
    result = run("diagnose", "-o", output, str(path))
    assert result.exception is None
    assert "app-not-listening" in result.output
    if output in ("json", "sarif"):
        json.loads(result.output)
    if output == "html":
        assert "<script" not in result.output
        assert "http://10.244.2.9" in result.output, "evidence is text, escaped"


def test_text_fits_eighty_columns(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text(EVENT)
    lines = run("diagnose", str(path)).output.split("\n")
    assert max(len(line) for line in lines if "$ " not in line and "| " not in line and "/" not in line) <= 80


def test_the_json_report_has_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text(EVENT)
    report = json.loads(run("diagnose", "-o", "json", str(path)).output)
    assert report["schema"] == 1
    keys = {"verdict", "findings", "reachability", "ruled_out", "symptoms", "next", "not_checked", "problems"}
    assert keys <= set(report)
    finding = report["findings"][0]
    assert {"cause", "confidence", "severity", "title", "subject", "explains", "evidence", "fixes"} <= set(
        finding
    )
    assert finding["evidence"][0]["source"] == f"{path}:1"
    assert finding["cause"] in causes.load()


def test_demo_proves_four_causes_and_explains_one_healthy_case() -> None:
    report = json.loads(run("demo", "-o", "json").output)
    cases = report["cases"]
    assert [c["verdict"] for c in cases] == ["cause-found"] * 4 + ["healthy"]
    for case in cases[:4]:
        assert any(f["status"] == "proven" for f in case["findings"][0]["fixes"])
    assert {r["disposition"] for r in cases[4]["reachability"]} == {"delivered", "dropped"}


def test_explain_and_its_guess() -> None:
    assert "What happens" in run("explain", "tofqdns-entry-expired").output
    result = run("explain", "tofqdns-entry-expire")
    assert "tofqdns-entry-expired" in str(result.exception)


def test_causes_as_json() -> None:
    rows = json.loads(run("causes", "-o", "json").output)["causes"]
    assert {r["slug"] for r in rows} == set(causes.load())


def test_path_answers_each_line_and_names_the_bad_one(tmp_path: Path) -> None:
    node = tmp_path / "evidence" / "r"
    node.mkdir(parents=True)
    (node / "ip-link.json").write_text(
        '[{"ifindex":2,"ifname":"d0","flags":["UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether"}]'
    )
    flows = tmp_path / "flows.jsonl"
    flows.write_text(
        '{"id":"a","kind":"packet","netns":"r","in_dev":"d0","src":"10.0.0.1","dst":"10.0.0.2"}\n{"id":"b","kind":"teleport"}\nnot json\n'
    )
    result = run("path", str(tmp_path / "evidence"), "--flows", str(flows))
    assert result.return_value == 2
    answers = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert [a["id"] for a in answers] == ["a", "b", ""]
    assert answers[0]["disposition"] == "unknown", "routes are not in the evidence"
    assert "flows.jsonl:3" in result.output


def test_path_walks_a_connection_through_policy(tmp_path: Path) -> None:
    objects = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.8, selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: cart, namespace: shop}
subsets: [{addresses: [{ip: 10.244.1.8, targetRef: {kind: Pod, name: cart-0, namespace: shop}}], ports: [{name: http, port: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: cart-0, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: app, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.244.1.8, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec: {containers: [{name: app}]}
status: {podIP: 10.244.1.9, phase: Running}
"""
    policy = """---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cart, namespace: shop}
spec: {podSelector: {matchLabels: {app: cart}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: %s}}}]}]}
"""
    path = tmp_path / "cluster.yaml"
    ends = {}
    for allowed in ("web", "admin"):
        path.write_text(objects + policy % allowed)
        result = run(
            "path",
            str(path),
            "--flows",
            "-",
            stdin='{"id":"1","kind":"connection","from":"shop/web-0","to":"http://cart/"}\n',
        )
        ends[allowed] = json.loads(result.output)
    assert ends["web"]["disposition"] == "delivered"
    assert ends["web"]["answer"]["status"] == 200
    assert (ends["admin"]["disposition"], ends["admin"]["reason"]) == ("dropped", "POLICY_DENIED")


def test_path_walks_over_what_a_proxy_runs(tmp_path: Path) -> None:
    """The objects send orders to its own cluster; the caller's dump to one that it does not have."""
    scenario = Path(__file__).parent.parent / "scenarios/mesh/proxy-config-push-stale-or-rejected.md"
    case = next(c for c in cases(scenario) if c.title.startswith("a route of the dump"))
    ends = {}
    for names in (("objects.yaml",), ("objects.yaml", "caller.json")):
        for name in names:
            (tmp_path / name).write_text(case.files[name])
        flow = '{"id":"1","kind":"connection","from":"web/caller-0","to":"http://orders.shop/"}\n'
        result = run("path", str(tmp_path), "--flows", "-", stdin=flow)
        ends[len(names)] = json.loads(result.output)
    assert ends[1]["answer"]["status"] == 200
    assert (ends[2]["answer"]["status"], ends[2]["answer"]["flags"]) == (503, ["NC"])
    cited = [source["file"] for step in ends[2]["steps"] for source in step["sources"]]
    assert any(file.endswith("caller.json") for file in cited)


def test_the_schema_is_the_committed_one() -> None:
    from deadhop.report.json import schema

    committed = Path(causes.__file__).parents[1] / "report/schema/diagnosis.schema.json"
    assert committed.read_text() == schema()


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def-12345",
        '("cookie","session=s3cr3t")',
        "token eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM",
        "https://user:hunter2@example.org/",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "password=hunter2",
    ],
)
def test_secrets_do_not_leave(text: str) -> None:
    shown = clean(text)
    assert MARK in shown
    assert not any(word in shown for word in ("abc.def", "s3cr3t", "SflKxw", "hunter2", "MIIE"))


def test_diagnosis_imports_nothing_that_needs_linux_or_a_network() -> None:
    code = "import sys\nfrom deadhop import causes\nimport deadhop.cli.diagnose, deadhop.cli.path, deadhop.cli.explain, deadhop.cli.causes, deadhop.evidence, deadhop.diagnose\ncauses.load()\nprint(sorted(m for m in sys.modules if m.partition('.')[0] in ('pyroute2', 'fcntl', 'ctypes', 'asyncio', 'resource', 'dns')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
