"""`python -m masklab` is the command `masklab`."""

from masklab.cli import main

main()
