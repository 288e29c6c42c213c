"""The Lightning side of the house: it wires, and does no maths."""
