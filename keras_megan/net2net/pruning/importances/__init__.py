"""How much units matter: by their weights, and by what they do on data."""
