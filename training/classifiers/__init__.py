"""The experiments on classifiers: schedules, cost, robustness, detection."""
