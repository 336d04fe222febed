"""What is learned: data, losses and scores; `task.Task` is what the loop asks for."""
