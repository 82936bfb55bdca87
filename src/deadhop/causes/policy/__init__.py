"""Causes of the family ``policy``, one file each."""
