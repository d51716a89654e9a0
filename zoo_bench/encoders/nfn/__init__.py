"""The encoders whose layers commute with reorderings of neurons."""
