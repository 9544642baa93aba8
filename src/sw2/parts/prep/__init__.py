"""Bricks that turn raw things into numbers: pictures.

Not here: what is fitted to data (a task's Prep), and augmentation (a domain's business).
"""
