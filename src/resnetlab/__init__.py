"""Residual networks, correct to the paper and fast on the computer that people have."""
