"""A bundle at work: images to probabilities, attention maps and boxes; needs no configuration and no tracking."""
