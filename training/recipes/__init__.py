"""Recipes: Python files that define RECIPE; see `training.recipe`."""
