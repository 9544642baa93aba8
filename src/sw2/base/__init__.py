"""Layer 0: errors, names, configs, seeds, devices and the store of files. Knows nothing of learning."""
