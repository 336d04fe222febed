"""Speed and quality of exported files, on the runtimes that will run them."""

from keras_megan.extras import require_or_exit

require_or_exit("export")
