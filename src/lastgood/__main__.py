"""``python -m lastgood``: the command line."""

from lastgood.cli import main

main()
