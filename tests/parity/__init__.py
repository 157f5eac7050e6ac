"""Compares redvtp with tensors that the official code produced: ``python -m tests.parity DIR...``."""
