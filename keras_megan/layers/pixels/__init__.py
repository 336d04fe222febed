"""From images to features and back: residual blocks, upsampling, padding."""
