"""`python -m sanderling`: the command line."""

from sanderling.cli import main

main()
