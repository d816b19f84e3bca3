"""`python -m nestlab` is `nestlab`."""

from .show.cli import main

main()
