"""Evaluation: an encoder on a cell, the cells of benchmarks, and the checks of encoders and of results."""
