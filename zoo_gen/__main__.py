"""`python -m zoo_gen` is `zoo-gen`."""

from zoo_gen.cli.main import main

main()
