"""From a model to the calls it consists of."""
