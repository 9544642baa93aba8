"""Embedding: texts as vectors whose dot products say how near their meanings are.

Reading order: `task` (what is asked, judging), `pairs` (what it is judged on), `pieces` (from text to tokens),
`encoder` (the network), `embedder` (how texts run through it), `minilm` (the named weights), `senses` and `sentences`
(a claim: a word's vector in its sentence tells its sense).
"""
