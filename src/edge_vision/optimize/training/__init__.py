"""Training on ONNX graphs: a graph runs in PyTorch with its own initialisers as parameters, and what was trained is
written back into the same graph. Needs PyTorch, which is imported here and nowhere else: import these modules lazily.
"""
