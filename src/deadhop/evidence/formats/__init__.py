"""One file per format. Each has a constant ``FORMAT``, which the registry finds by a scan."""
