"""Galleries of pictures and knowledge bases; encoders are handed in."""
