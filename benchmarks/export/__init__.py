"""Speed and quality of exported files, on the runtimes that will run them."""
