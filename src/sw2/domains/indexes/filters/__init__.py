"""Filters: programs that know which keys are surely not in a set.

What is asked: `membership-filter`, a key in, "no" or "probably" out. A Bloom filter knows that of any keys; a
classifier that has learned what keys look like saves some of its bits (arXiv 1712.01208, section 5), and a second Bloom
filter behind it holds the keys that it misses, so that none is ever denied.

Shapes: N keys, W weights.

Reading order: `sizes` (which rate costs how many bits), `kernels.cpp` (hashes, fields of bits, the classifier),
`reference` (the same in numpy), `keysets` (keys as both take them), `models` (the filters), `data` (files), `task`
(what is asked, judging), `objective` (the trial, and the filling), `presets`. For users: docs/membership-filter.md.
"""
