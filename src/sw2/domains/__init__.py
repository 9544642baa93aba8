"""Layer 4: one folder per family of learned programs. Each holds `DOMAIN`; domains never import each other."""
