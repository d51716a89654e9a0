"""`python -m zoo_bench` is `zoo-bench`."""

from zoo_bench.cli import main

main()
