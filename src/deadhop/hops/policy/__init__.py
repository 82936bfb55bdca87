"""Which policy selects whom, and whether it lets a connection pass: Kubernetes NetworkPolicy and Cilium L3/L4.

``compile`` turns manifests into rules once; ``decide`` judges one connection, egress at the source and ingress at the
destination. Three-valued: labels that the evidence lacks make an answer unknown, with what is missing.
"""
