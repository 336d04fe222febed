"""Images as arrays: resizing, bytes and floats, finding clips in folders."""
