"""`python -m keras_megan` is the `megan` command."""

import sys

from keras_megan.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
