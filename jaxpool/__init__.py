"""Pooling models (embedding, classification, scoring, reward) on TPU, GPU and CPU with JAX."""

import os

import lazy_loader

# transformers reads configurations and tokenizers here; its advice to install torch is no use.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

# Names are imported at their first use, from where __init__.pyi says: commands that need no JAX
# start in milliseconds, and the server listens before it is there.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
