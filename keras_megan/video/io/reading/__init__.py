"""Files in: what a clip is, whether it is whole, and its frames with their times."""
