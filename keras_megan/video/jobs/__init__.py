"""A job that survives its process: what is to do, what is done, and the threads."""
