"""Layer 1: bricks that more than one domain builds with. Each folder stands alone: siblings never import each other.

`layers` (of networks), `prep` (raw things to numbers), `data` (order and shards), `optim` (going downhill), `metrics`
(how good), `decoding` (token after token). Nothing here knows a task or a program.
"""
