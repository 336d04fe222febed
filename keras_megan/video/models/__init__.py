"""What turns frames into frames: Keras models and exported files, described alike."""
