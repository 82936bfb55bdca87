"""The mesh hop: what Istio's control plane makes of its objects, and what Envoy then does with a request.

Everything a caller needs is in :mod:`deadhop.hops.mesh.api`.
"""
