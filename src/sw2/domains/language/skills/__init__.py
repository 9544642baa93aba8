"""Skills: what an assistant is taught and judged on, made here from nothing but code and what stands on the machine.

Each skill makes conversations that are right, divided so that the test shares neither matter nor wording with train,
and has a checker that says what is wrong with a conversation as a model made it.

Reading order: `basis` (examples, verdicts), `checking` (the skills by name), then the skills: `arithmetic` (with
`sums`), `orderbot`, `documentation` (its passages, questions and checker in files beside it), `records`, and
`preferences` (pairs with named flaws). Pure Python, no learning. How well the checkers agree with people: README.md.
"""
