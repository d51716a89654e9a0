"""Models that live in one multiprocessor each: a thread block trains one model, epoch after epoch.

Weights, gradients and the values of eight images at a time lie in shared memory; CUDA C++ is written from the list of
layers (`forward_code.py`, `backward_code.py`) and compiled when it is needed (`compiling.py`).
"""
