"""Bricks for data: in which order examples are learned from."""
