"""Collates: from transformed samples to one typed batch."""
