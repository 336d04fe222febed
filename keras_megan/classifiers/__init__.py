"""Image classifiers: VGG of any width, and several stage networks that judge
together."""

from keras_megan.classifiers.mutual_inference import MutualInference
from keras_megan.classifiers.vgg import VGG_BLOCKS, vgg_bn, vgg_widths

__all__ = ["VGG_BLOCKS", "MutualInference", "vgg_bn", "vgg_widths"]
