"""Programs that ship networks: files that were run and compared, or none at all."""
