"""What a machine gives: worker processes, memory, compiled vector code."""
