"""Haina (海纳): raw Chinese and English web pages in, a trained, measured, quantised and served language model out."""

__version__ = "0.1.0"
