"""The function trace on the running kernel: it works, or it says what was tried and what refused."""

from __future__ import annotations

import os
import socket
import sys

import pytest
from click.testing import CliRunner

from deadhop.cli.ktrace import command
from deadhop.kernel.attach import WAYS
from deadhop.kernel.drops import NoProbe, types
from deadhop.kernel.filter import parse
from deadhop.kernel.trace import FunctionTrace, traceable
from deadhop.kernel.trace_lines import Lines
from deadhop.model.kernel_functions import FUNCTIONS

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and root"),
]


def attached(port: int) -> FunctionTrace | str:
    try:
        return FunctionTrace(parse(f"udp and dst port {port}"))
    except NoProbe as error:
        return str(error)


def test_a_datagram_on_the_loopback_is_followed_or_every_way_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        trace = attached(port)
        if isinstance(trace, str):
            if "BTF" in trace:
                pytest.skip(trace)
            for way in WAYS:
                assert f"{way}: " in trace
            return
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"a datagram", ("127.0.0.1", port))
            receiver.recv(100)
            assert trace.wait(10)
            lines = Lines(trace.reasons)
            passed = [lines.function(event) for event in trace.drain()]
            assert "ip_rcv" in passed
            assert "udp_rcv" in passed
        finally:
            trace.close()


def test_the_command_explains_a_refusal() -> None:
    trace = attached(9)
    if not isinstance(trace, str):
        trace.close()
        pytest.skip("this kernel lets the trace in")
    done = CliRunner().invoke(command, ["udp and dst port 9"])
    assert done.exit_code == 1
    assert "deadhop drops works on more kernels" in done.output


def test_the_catalogue_is_what_is_traced() -> None:
    try:
        btf = types()
    except NoProbe as error:
        pytest.skip(str(error))
    targets = traceable(btf, FUNCTIONS)
    assert set(targets) <= set(FUNCTIONS)
    assert targets["ip_forward"] == 0
    assert targets["ip_output"] == 2
    assert len(traceable(btf)) > len(targets)
