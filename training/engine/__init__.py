"""One training loop for every strategy: steps, state, precision."""
