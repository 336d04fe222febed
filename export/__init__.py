"""Programs that make and check files for devices; run from a checkout.

TensorFlow's start-up messages are left out; ``TF_CPP_MIN_LOG_LEVEL=0`` shows them.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_megan.extras import require_or_exit
from keras_megan.quiet import load_keras

require_or_exit("export")
load_keras()
