"""What engines compute with: integer layers as NumPy data, made of the tensors of a checkpoint."""
