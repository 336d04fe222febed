"""Pruning: which units and blocks go, how many, and what helps the network after it."""
