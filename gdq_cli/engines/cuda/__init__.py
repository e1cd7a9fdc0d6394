"""The CUDA engine: Triton kernels on one or several GPUs."""
