"""Files in (`reading`) and files out (`writing`), and what both need."""
