"""FastLoss and its peers: PyTorch as scGPT writes it, PyTorch at its best, torch.compile and JAX.

`scripts/compare-peers` runs this package. Every provider computes the same losses and gradients from the same
inputs; all of them are compared with a float64 oracle before any is timed. The task heads are too much work
for float64: it checks small ones, and those that are timed are compared with each other.
"""
