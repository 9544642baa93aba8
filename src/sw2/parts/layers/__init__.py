"""Bricks of networks: layers that more than one architecture is built from."""
