"""What is learned: data, loss and scores. The loop knows nothing else of a task."""
