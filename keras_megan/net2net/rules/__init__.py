"""What each operation does to channels; one file for each kind of operation."""
