"""One fold run: objective, optimizer, Lightning module, checkpoints."""
