"""Running files on the device's own runtimes, and comparing with Keras."""
