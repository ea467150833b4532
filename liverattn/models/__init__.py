"""The network: trunk, attention, classifier. Plain `torch.nn.Module`; knows nothing of trainer, config or tracking."""
