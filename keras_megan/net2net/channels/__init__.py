"""Channel axes: which units are coupled, and how copies share."""
