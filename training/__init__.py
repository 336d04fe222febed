"""Programs that train and evaluate; run from a checkout, `python -m training.NAME`."""

import os

# Samples are made by many small matrix products on many threads at once. OpenBLAS would
# share each of them among all cores and spend 30 times as long waiting for them. It
# reads this when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
