"""The encoders that run the networks on inputs of their own."""
