"""GloVe: vectors whose products are the logarithms of how often words stand near each other.

Source: Pennington, Socher and Manning 2014, "GloVe: Global Vectors for Word Representation",
https://aclanthology.org/D14-1162. What is asked of the vectors, and the corpus, are those of the room above.

Reading order: `kernels.cpp` (the formulas; counting and a step), `fit` (what a step takes, and the step in numpy),
`native` (the kernels from Python), `counts` (pairs within bounded memory), `objective`.
"""
