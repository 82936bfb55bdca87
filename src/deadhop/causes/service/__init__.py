"""Causes of the family ``service``, one file each."""
