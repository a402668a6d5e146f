"""Lines, paragraphs, sentences and long substrings that stand more than once in a corpus.

Comes in: curated documents. Goes out: where each repeated thing stands, how often and where first, and the documents
without the copies.
"""
