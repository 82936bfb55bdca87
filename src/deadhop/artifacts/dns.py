"""What a person applies against large DNS answers: a forward over TCP, and a cache that is kept warm."""

from __future__ import annotations


def force_tcp(zone: str, upstream: str) -> str:
    """A server block that forwards ``zone`` over TCP (CoreDNS plugin/forward, force_tcp)."""
    return f"""{zone}:53 {{
    errors
    cache 30
    forward . {upstream} {{
        force_tcp
    }}
}}
"""


def warm_sidecar(name: str, qtype: str, period: int) -> str:
    """A sidecar that asks ``name`` over TCP every ``period`` seconds, so that the cluster's cache holds it."""
    return f"""# Add to the pod's spec.containers
- name: dns-warm
  image: registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7
  command: ["/bin/sh", "-c"]
  args:
    - |
      while true; do
        dig +tcp +noall +answer {qtype} {name} > /dev/null
        sleep {period}
      done
  resources:
    requests: {{cpu: 5m, memory: 16Mi}}
"""


def race(ttl: int, period: int) -> str:
    """What a fixed period leaves open: after the entry expires, until the next run."""
    return f"A fixed period leaves a race: an entry of TTL {ttl} s that is asked every {period} s can be gone for up to {period} s, and a client that asks in that gap meets the loss again. Asking right after each expiry closes it."
