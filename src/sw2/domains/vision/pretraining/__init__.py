"""Pre-training: a network for pictures, learned from pictures without labels.

What is asked: `image-feature-extraction`, a picture in, a vector out, of which nearby ones mean alike pictures. Nothing
needs a label to learn it; to a classifier that starts from such a program (`--from`) fewer of them may do.

Shapes: N pictures, B pictures in a batch, C channels, S pixels a side, P pixels a side of a square, T squares of a
picture, V of them seen and U hidden, D width, E width of the decoder or of the projection.

Reading order: `task` (what is asked, the program), `probing` (how vectors are judged), `lesson` (what both ways to
learn have in common), `masked` (squares guessed from the others), `views` and `contrastive` (two views of one picture
found among others), `presets`. For users: docs/pretraining.md; measured results: README.md of the domain.
"""
