"""Looking further than a convolution: across frames, and across the image."""
