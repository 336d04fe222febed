"""The parts of `training.evaluate`, in the order a clip meets them:

    clips -> scored_windows -> baselines, network_method, peers -> scoring
          -> report, figure

`clips` finds and reads ground truth and makes the network's input from it,
`scored_windows` cuts it, methods predict (`baselines`, a network, or the `peers` that
others publish), `scoring` measures, `report` and `figure` show the results.
"""
