"""Training: losses, GradCache, adapters, and a trainer made of them."""
