"""Causes of the family ``conntrack``, one file each."""
