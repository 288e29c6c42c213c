"""The Lightning side: it wires, and does no maths."""
