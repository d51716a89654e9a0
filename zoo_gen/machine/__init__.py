"""The machine: its devices, worker processes, memory, and compiled vector code."""
