"""Records that are the same: by address, by perceptual hash, by vectors; within and across sets."""
