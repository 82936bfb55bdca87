"""A sidecar that keeps names warm with nothing but dig and a shell: it sleeps for the TTL that the answer shows."""

from __future__ import annotations

from collections.abc import Sequence

IMAGE = "registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7"


def sidecar(questions: Sequence[tuple[str, str]], servers: Sequence[str], tcp: bool) -> str:
    """The container's YAML. Without servers it asks every address in the pod's resolv.conf."""
    names = " ".join(f"{kind}:{name}" for name, kind in questions)
    where = " ".join(servers) or "$(awk '/^nameserver/{print $2}' /etc/resolv.conf)"
    return f"""# Add to spec.template.spec.containers of a Deployment. Each CoreDNS pod has a cache of its own: give their addresses
# as --server (those of a headless Service), or run it once beside each node-local cache.
- name: dns-warm
  image: {IMAGE}
  command: ["/bin/sh", "-c"]
  args:
    - |
      trap 'exit 0' TERM INT
      keep() {{
        while :; do
          ttl=$(dig +{"tcp" if tcp else "notcp"} +time=2 +tries=1 +noall +answer @"$3" "$1" "$2" | awk 'NR==1||$2<m{{m=$2}} END{{print m+0}}')
          # Ask in the last tenth of the TTL, for caches that prefetch, and again at its end, for those that do not.
          if [ "$ttl" -gt 10 ]; then sleep $((ttl - ttl / 10)); elif [ "$ttl" -gt 1 ]; then sleep $((ttl - 1)); else sleep 0.2; fi
        done
      }}
      for server in {where}; do
        for question in {names}; do
          keep "${{question%%:*}}" "${{question#*:}}" "$server" &
        done
      done
      wait
  resources:
    requests: {{cpu: 5m, memory: 16Mi}}
    limits: {{memory: 64Mi}}
"""
