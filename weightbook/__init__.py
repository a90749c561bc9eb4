"""Twenty-four research papers about weights, each derived, implemented, checked and measured."""

__version__ = "0.1.0"
