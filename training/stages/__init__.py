"""Recipes, and what happens between the stages of cumulative training."""
