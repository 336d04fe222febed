"""Programs that train and evaluate; run from a checkout, `python -m training.NAME`.

TensorFlow's start-up messages are left out; ``TF_CPP_MIN_LOG_LEVEL=0`` shows them.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Samples are made by many small matrix products on many threads at once. OpenBLAS would
# share each of them among all cores and spend 30 times as long waiting for them. It
# reads this when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from keras_megan.extras import require_or_exit
from keras_megan.quiet import load_keras

require_or_exit("training")
load_keras()
