"""LISA."""
