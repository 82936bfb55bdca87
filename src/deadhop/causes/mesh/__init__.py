"""Causes of the family ``mesh``, one file each."""
