"""The lecture's claims about networks that look at pictures, each an experiment of seconds to minutes.

Reading order: `entries` (what each expects, and by which rule it is judged), `bench` (the digits, the networks, the
loop that all share), then one file a claim: `chain_rule`, `vanishing`, `initial`, `normalised`, `optimisers`,
`dropped`, `averaged`. A test holds each one's numbers to the theory where there is one.
"""
