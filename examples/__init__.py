"""Notebooks to read and run; `python -m examples.run` executes them all."""
