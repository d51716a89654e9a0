"""Archives of others, read safely: folders, zips, tars and the pickles inside."""
