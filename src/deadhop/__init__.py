"""deadhop finds the hop where a Kubernetes connection dies."""

__version__ = "0.1.0"
