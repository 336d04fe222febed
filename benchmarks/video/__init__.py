"""Measurements of `megan upscale`: speed, and what it survives."""
