"""Recipes: Python files that define RECIPE; see `training.stages.recipe`."""
