"""Causes of the family ``ingress``, one file each."""
