"""What a runtime is known to refuse or to compute wrongly, found by reading the
file."""
