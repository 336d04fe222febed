"""Where pixels come from: motion fields, alignment, and frames moved by them."""
