"""Counting multiply-adds and parameters."""
