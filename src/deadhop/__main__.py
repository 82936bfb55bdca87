"""``python -m deadhop``."""

from deadhop.cli import main

main()
