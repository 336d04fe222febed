"""What a person asks for: how large, at which rate, of which files."""
