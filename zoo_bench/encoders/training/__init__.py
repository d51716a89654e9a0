"""How neural encoders are trained: the loop, its steps, targets and progress."""
