"""Runs `training.train` and keeps this process's own weights; started by tests.

python -m tests.training.worker WEIGHTS.npy --recipe ... (flags of training.train)
"""

import sys

import numpy as np


def main():
    path = sys.argv.pop(1)
    from absl import app

    from keras_megan.errors import run_program
    from training import train
    from training.stages import cumulative

    run_stage = cumulative.run_stage

    def run_and_keep(run, state, *arguments):
        try:
            run_stage(run, state, *arguments)
        finally:  # stopped by a signal, too
            variables = state.model.variables
            np.save(path, np.concatenate([v.numpy().ravel() for v in variables]))

    cumulative.run_stage = run_and_keep
    train._define_flags()
    app.run(lambda argv: run_program("train", train._main))


if __name__ == "__main__":
    main()
