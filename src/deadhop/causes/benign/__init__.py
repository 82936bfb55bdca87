"""Causes of the family ``benign``, one file each."""
