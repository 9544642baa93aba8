"""Segmentation by clicks and boxes: which pixels belong to the thing that is meant?

What is asked: `image-segmentation`, a picture with clicks or a box in, a mask out, with the IoU it is thought to have.
The network has the shape of Segment Anything, small enough to learn on a processor.

Shapes: B pictures, S pixels a side as the network sees them, D width, P prompts, M = 3 masks.

Reading order: `task` (what is asked, the program, how it is judged), `clicks` (where the next one goes), `data`
(folders with masks, stamps), `cutouts` (scenes of things and photographs), `evidence` (what colours and edges say of
the clicks), `network`, `lesson` (how it is learned), `presets`.
For users: docs/segmentation.md; measured results: README.md of the domain.
"""
