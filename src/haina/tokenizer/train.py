"""Learns a byte-level BPE vocabulary from texts.

In: strings. Out: a `tokenizers.Tokenizer` that gives back every string exactly. The steps: cut the text into
pre-tokens with one regular expression, write each as its UTF-8 bytes, and merge the most frequent
neighbouring pair until the vocabulary is full (Sennrich et al. 2016, arXiv:1508.07909; bytes as in Radford et
al. 2019, "GPT-2").

The regular expression is the one that llama.cpp names `qwen2`, so that a GGUF made from this tokenizer cuts
text in the same places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import check_characters
from haina.tokenizer.config import TokenizerConfig

BOS, EOS, PAD, TURN_START, TURN_END = SPECIAL_TOKENS = ("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")

# A run of Han characters is one pre-token, from one punctuation mark to the next: \p{L} holds Han as well as
# Latin letters, so BPE finds Chinese words by frequency, and no word list or space decides for it. Measured
# on software manuals, 8,192 pieces: parting Han from Latin and from the mark before it gains 0.4 % in Chinese
# and loses 3 % in English, and llama.cpp would have no name for it.
PRE_TOKENS = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",  # English clitics
    r"[^\r\n\p{L}\p{N}]?\p{L}+",  # letters with at most one mark or space before them
    r"\p{N}",  # every digit alone, full-width and Han-style numerals included
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # marks and symbols
    r"\s*[\r\n]+",  # line ends with the space before them
    r"\s+(?!\S)",  # indents, but for the last space, which goes with the word
    r"\s+",
)
PATTERN = "|".join(PRE_TOKENS)


def untrained_tokenizer() -> Tokenizer:
    """Everything but the vocabulary: no normalisation, the pre-tokens above, bytes back to text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        check_characters(text)
        if text:
            yield text


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learn `config.vocab_size` pieces.

    The result depends on the multiset of texts only, not on their order, on threads or on the hash seed:
    pairs that are equally frequent are merged in the order of their ids.

    Raises:
        HainaError: no text, text that is not valid Unicode, or too little text for the vocabulary.
    """
    stream = _checked(texts)
    first = next(stream, None)
    if first is None:
        raise HainaError(
            "tokenizer: no text to learn from", "the corpus stage kept no documents; see its dropped table"
        )
    tokenizer = untrained_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        max_token_length=config.max_token_bytes,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain([first], stream), trainer)
    reached = tokenizer.get_vocab_size(with_added_tokens=True)
    if reached != config.vocab_size:
        raise HainaError(
            f"tokenizer.vocab_size: the text gives {reached} pieces, {config.vocab_size} were asked for",
            f"lower tokenizer.vocab_size to {reached} or less, or bring more text",
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer
