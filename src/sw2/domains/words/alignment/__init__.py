"""Alignment: the words of two languages, each in vectors of its own, brought into one space.

What is asked: `word-alignment`, a word in, words of another language out. Nothing needs to be translated to learn it:
languages speak of one world, so their words stand in similar shapes, and one shape is turned onto the other.

Shapes: N words of the source, M of the target, D dimensions, P pairs, K neighbours.

Reading order: `geometry` (maps and neighbours), `induction` (from a map to a dictionary), `structure` (was anything
found?), `objective` (self-learning, and the closed form for who has a dictionary), `adversary` (another way without
one), `ending` (from a map to a program), `task` (what is asked, judging), `model` and `data` (what it holds, what it
reads), `dictionaries`, `presets`. For users: docs/word-alignment.md.
"""
