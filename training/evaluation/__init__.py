"""The parts of `training.evaluate`, in the order a clip meets them:

    clips -> windows -> methods -> scoring -> report, figure

`clips` finds and reads ground truth and makes the network's input from it, `windows`
cuts it, `methods` predicts, `scoring` measures, `report` and `figure` show the results.
"""
