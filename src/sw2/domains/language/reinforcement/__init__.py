"""Reinforcement learning: a way to learn `chat` from what answers are worth, without anybody having written them.

    prompts → the policy as it is answers each several times → what each answer is worth → likelier, or less likely

`--objective grpo` compares the answers to one prompt with each other; `--objective ppo` has a critic that expects what
an answer will be worth. Both make programs of the task `chat`, judged as such.

Reading order: `rewards` (what an answer is worth), `worker` (a user's function in a process of its own), `guards` (when
to stop), `rollouts` (answers as batches), `objective` (both losses), `presets`.
"""
