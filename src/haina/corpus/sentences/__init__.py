"""Sentences: where they are, and which of them do not belong."""

from haina.corpus.sentences.edit import Edit, Edited, edit_document, edit_documents
from haina.corpus.sentences.split import Sentence, plain_sentences, split_packed, split_sentences

__all__ = [
    "Edit",
    "Edited",
    "Sentence",
    "edit_document",
    "edit_documents",
    "plain_sentences",
    "split_packed",
    "split_sentences",
]
