"""Producing tokens one after another: the cache of keys and values, the choice of a token, the scheduler, the text."""
