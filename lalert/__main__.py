"""`python -m lalert`: the command line."""

from lalert.cli import main

main(prog_name="lalert")
