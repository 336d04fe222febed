"""Runs `training.train` and keeps this process's own weights; started by tests.

python -m tests.training.worker WEIGHTS.npy --recipe ... (flags of training.train)
"""

import sys

import numpy as np


def main():
    path = sys.argv.pop(1)
    from absl import app

    from training import cumulative, train
    from training.errors import run_program

    finish = cumulative._Driver.run

    def run(self, *arguments):
        finish(self, *arguments)
        variables = self.before.model.variables
        np.save(path, np.concatenate([v.numpy().ravel() for v in variables]))

    cumulative._Driver.run = run
    train._define_flags()
    app.run(lambda argv: run_program("train", train._main))


if __name__ == "__main__":
    main()
