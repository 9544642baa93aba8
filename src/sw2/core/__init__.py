"""Layer 2: the nouns of sw2 and the one driver.

Reading order: `kinds` and `data` (what goes in), `task` (what is asked), `model` (a network), `objective` (how it is
learned), `gradient` (the usual objective), `program` (what comes out), `run` (the folder of a training),
`trainer` (the driver), `health`, `distributed`, `domain` (how all of it is registered); beside them `labelled` (tasks
whose labels can be looked after) and `history` (a data set as source).

The contract is argued in docs/decisions/0001-contract.md.
"""
