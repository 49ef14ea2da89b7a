"""`python -m webfoot` is the command line."""

from webfoot.cli import main

main()
