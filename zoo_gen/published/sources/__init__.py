"""Where published zoos are: the registry, downloads, parts of remote zip files."""
