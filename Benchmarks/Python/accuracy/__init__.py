"""How large the errors of FastLoss and of PyTorch are, on inputs chosen to make them large.

scripts/measure-accuracy runs it. Both compute in float32 and are compared with float64.
"""
