"""A configuration that is wrong says where; nothing listens before it is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deadhop.cli.gateway import command
from deadhop.evidence.checked_yaml import ShapeError
from deadhop.gateway.config import parse, warnings
from deadhop.gateway.inbound import Refused, check
from deadhop.gateway.table import Ambiguous, Table, canonical

GOOD = """\
upstreams:
  app: {url: "http://dashboard.ops.svc.cluster.local"}
routes:
- host: portal.example.com
  upstream: app
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "  hots: x\n", "g.yaml:6: routes[0].hots: Object contains unknown field `hots`"),
        (GOOD.replace("upstream: app", "upstream: ap"), "g.yaml:5: there is no upstream 'ap'"),
        (GOOD.replace("http://dash", "dash"), "g.yaml:2: 'dashboard.ops.svc.cluster.local' is not http(s)"),
        (GOOD + "  set: {Host: x}\n", "g.yaml:6: the gateway writes Host itself"),
        (GOOD + '  set: {X-A: "a\\nb"}\n', "g.yaml:6: a header value holds no control characters"),
        (GOOD + "  set: {X A: b}\n", "g.yaml:6: 'X A' is no header name"),
        (GOOD + "  require: anyone\n", "g.yaml:6: needs auth"),
        (GOOD + "listen: 8080\n", "g.yaml:6: listen: Expected `str | array`, got `int`"),
        (GOOD + "listen: nowhere\n", "g.yaml:6: 'nowhere' is not ADDRESS:PORT"),
        (GOOD + "trust: [10.0.0.0/33]\n", "g.yaml:6: '10.0.0.0/33' does not appear to be"),
        (GOOD + "- {host: portal.EXAMPLE.com, upstream: app}\n", "g.yaml:6: a second route"),
        ("routes: [\n", "g.yaml:2: not YAML"),
        ("", "g.yaml:1: Expected `object`"),
    ],
)
def test_errors_name_file_and_line(text: str, said: str) -> None:
    with pytest.raises(ShapeError) as error:
        parse(text, "g.yaml")
    assert str(error.value).startswith(said)


def test_a_preserved_host_into_a_mesh_is_warned_about() -> None:
    assert not list(warnings(parse(GOOD, "g")))
    kept = GOOD + "  host_header: preserve\n"
    assert "503 UC under STRICT" in next(warnings(parse(kept, "g")))
    assert not list(warnings(parse(kept.replace('local"}', 'local", mesh: false}'), "g")))


def test_the_command_says_what_is_wrong_and_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(GOOD + "  hots: x\n")
    done = CliRunner().invoke(command, ["run", str(path)], standalone_mode=False)
    assert done.return_value == 2
    assert f"{path}:6:" in done.output


@given(st.text(max_size=300))
def test_any_text_is_a_configuration_or_an_error(text: str) -> None:
    try:
        parse(text, "g.yaml")
    except ShapeError as error:
        if not str(error).startswith("g.yaml:"):
            pytest.fail(str(error))


@given(st.binary(max_size=60))
def test_a_path_is_canonical_or_ambiguous(path: bytes) -> None:
    try:
        found = canonical(b"/" + path)
    except Ambiguous:
        return
    assert found.startswith("/")
    assert "//" not in found
    assert not {".", ".."} & set(found.split("/"))
    assert Table(parse(GOOD, "g")).find("portal.example.com", found) is not None


@given(
    st.binary(max_size=20),
    st.lists(st.tuples(st.sampled_from([b"host", b"content-length", b"transfer-encoding", b"x"]), st.binary(max_size=20))),
)  # fmt: skip
def test_a_head_is_checked_or_refused(target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    try:
        head = check(b"GET", target, "1.1", fields, False)
    except Refused as refusal:
        if not 400 <= refusal.status < 600:
            pytest.fail(str(refusal.status))
        return
    assert head.target.startswith(b"/")
    assert head.host
    assert not (head.chunked and head.length is not None)
