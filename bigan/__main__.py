"""`python -m bigan` is `bigan`."""

from bigan.cli import main

main()
