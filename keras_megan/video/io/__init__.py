"""Files in and out: probing, decoding, encoding, joining segments."""
