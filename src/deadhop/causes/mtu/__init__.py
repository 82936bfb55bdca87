"""Causes of the family ``mtu``, one file each."""
