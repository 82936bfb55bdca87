"""Kinds of the Kubernetes API by the words that kubectl takes for them."""

from __future__ import annotations

#: What kubectl calls the kinds that causes ask for (short names of core/v1, apps/v1, networking.k8s.io, cilium.io, istio.io).
_KINDS = {
    "Namespace": "ns namespace namespaces", "Node": "no node nodes", "ConfigMap": "cm configmap configmaps",
    "NetworkPolicy": "netpol networkpolicy networkpolicies", "Ingress": "ing ingress ingresses",
    "CiliumNetworkPolicy": "cnp ciliumnetworkpolicy ciliumnetworkpolicies", "Pod": "po pod pods", "Service": "svc service services",
    "CiliumClusterwideNetworkPolicy": "ccnp ciliumclusterwidenetworkpolicies", "Deployment": "deploy deployment deployments",
    "DaemonSet": "ds daemonset daemonsets", "StatefulSet": "sts statefulset statefulsets", "Secret": "secret secrets",
    "VirtualService": "vs virtualservice virtualservices", "DestinationRule": "dr destinationrule destinationrules",
    "PeerAuthentication": "pa peerauthentication peerauthentications", "ServiceEntry": "se serviceentry serviceentries",
    "AuthorizationPolicy": "ap authorizationpolicy authorizationpolicies", "Endpoints": "ep endpoints",
    "EndpointSlice": "endpointslice endpointslices", "Gateway": "gw gateway gateways", "HTTPRoute": "httproute httproutes",
    "CiliumIdentity": "ciliumid ciliumidentity ciliumidentities", "CiliumEndpoint": "cep ciliumendpoint ciliumendpoints",
    "ReplicaSet": "rs replicaset replicasets", "Sidecar": "sidecar sidecars", "EnvoyFilter": "envoyfilter envoyfilters",
}  # fmt: skip
KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words.split()}


def kind_of(word: str) -> str:
    """The kind that a word of kubectl names (``po``, ``networkpolicies.networking.k8s.io``, ``svc/web``); empty if unknown."""
    return KIND_OF.get(word.partition("/")[0].partition(".")[0].lower(), "")
