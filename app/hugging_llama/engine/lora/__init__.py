"""LoRA adapters (Hu et al., arXiv:2106.09685) over one copy of a model's weights, each sequence with its own."""
