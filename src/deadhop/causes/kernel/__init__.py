"""Causes of the family ``kernel``, one file each."""
