"""Samples, data sets, transforms and collates: everything between files and a typed batch."""
