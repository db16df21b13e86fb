"""masklab: pre-train, fine-tune, compare and explain language representations on your own text."""

__version__ = "0.1.0"
