"""Files out: encoding segments, and joining them with what goes beside pictures."""
