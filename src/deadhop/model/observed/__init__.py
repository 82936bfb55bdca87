"""Facts that tools and programs print: one module per field, one frozen record per fact.

A record holds what its source said and nothing more: ``None`` or an empty value means "not said".
"""
