"""Preferences: of two answers to the same conversation, which is better.

What is asked: `reward-modeling`, a conversation with an answer in, how good the answer is out. And a way to learn
`chat`: `--objective dpo` lowers the worse answer's probability against the better one's, without a reward model.

A pair is a conversation whose last answer is the better one, with the worse one beside it:
{"messages", "rejected": a message, perhaps "flaw": what is wrong with it}.

Reading order: `pairs` (a pair as tokens), `scorer` (a decoder that gives numbers), `task` (what is asked, judging), and
`objective` (both ways to learn). Measured results: the domain's README.md.
"""
