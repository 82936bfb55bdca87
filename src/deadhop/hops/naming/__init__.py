"""From a name to an address as a pod does it: its resolv.conf, its library's questions, policy on them, CoreDNS."""
