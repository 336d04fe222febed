"""From a video file to a sharper, smoother video file.

The stages, each in a file of its own, in the order a frame meets them:

    read -> scene_cuts -> windows -> runner (under tiles) -> segments -> assemble

`upscale` joins them in threads, `journal` lets an interrupted job continue, `compare`
and `demo` make pictures of the result. Nothing here imports a deep-learning framework
before a model is actually loaded, so reading and planning stay quick to import.
"""

from keras_megan.extras import require

require("video")
