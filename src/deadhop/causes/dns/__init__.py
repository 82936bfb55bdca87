"""Causes of the family ``dns``, one file each."""
