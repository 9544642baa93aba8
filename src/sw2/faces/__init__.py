"""Layer 6: how people and programs reach sw2. No learning code and no domain's name stands here."""
