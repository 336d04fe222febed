"""Measurements of net2net: what it covers, how fast it is, what pruning costs."""
