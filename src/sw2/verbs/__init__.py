"""Layer 4: what can be done to any program. A verb knows the contracts of `core`, never a domain."""
