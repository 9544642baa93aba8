"""A window of words: the first neural language model, after Bengio et al. 2003.

    words w₁ … w_T → the vectors C(w) of the last n - 1 words, side by side → tanh → the logits of the next word [V]

Reading order: `words` (text as words, rare ones as one symbol), `network` (the model), `writer` (what a program of it
does), `objective` (how it learns), `presets` (which settings, and why), `mixture` (several models' probabilities added
up with weights). Its own text, the Brown corpus, is `corpus.brown`; what it has to beat is `ngram`.

Why a room of its own, and what it shares with the decoder: docs/decisions/0023-a-window-of-words.md.

Source: Bengio, Ducharme, Vincent and Jauvin 2003, "A neural probabilistic language model", JMLR 3:1137-1155,
https://jmlr.org/papers/v3/bengio03a.html
"""
