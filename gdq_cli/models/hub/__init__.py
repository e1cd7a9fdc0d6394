"""The Hugging Face Hub: names of models there, its cache, downloads that are checked, and uploads."""
