"""The command line of zoo_gen, and how the commands of both packages end."""
