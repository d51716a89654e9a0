"""`python -m zoo_gen` is `zoo-gen`."""

from zoo_gen.cli import main

main()
