"""`python -m edgeloop`."""

from edgeloop.cli import main

main()
