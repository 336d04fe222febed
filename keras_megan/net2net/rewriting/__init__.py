"""From a plan to a new model."""
