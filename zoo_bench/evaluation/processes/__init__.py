"""Processes: every fit of an encoder runs in one of its own, which is gone afterwards with all that it has started."""
