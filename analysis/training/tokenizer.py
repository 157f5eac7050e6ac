"""The mini tokenizer: LLaDA's special tokens and chat template over some two hundred whole tokens.

A prompt is tokenised as LLaDA-V's `tokenizer_image_token` does (mm_utils.py:343-362): the rendered
text is split on `<image>`, the pieces are tokenised apart, and the first token of the later piece
(the newline) is dropped.
"""

from __future__ import annotations

import re
from string import ascii_letters, digits

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from analysis.benchmarks.concepts import COLOURS, KEYS, NO, OBJECTS, SHAPES, YES, plural
from redvtp.models.llada_v import BANNED_TOKENS
from redvtp.models.prompts import render, tokenize, user_text

BOS, EOS, MASK = "<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>"
START_HEADER, END_HEADER, EOT, IMAGE = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"
SPECIAL = (EOS, BOS, MASK, START_HEADER, END_HEADER, EOT, IMAGE)
BANNED = BANNED_TOKENS  # what LLaDA-V's sampler never writes
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
    " + '<|eot_id|>' }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)


WORDS = (*KEYS, *OBJECTS, *SHAPES, *map(plural, SHAPES), *COLOURS, YES, NO)
PHRASES = ("What is ", "What is the ", "What colour is the ", "What is left of the ", "What is above the ", "How many ",
           " are there?", "Is there a ", "Is there ", "Are there ", "Is the ", "Which label points to the ",
           "Which label has the ", "What does ", " point to?", "\nA. ", "\nB. ", "\nC. ", "\nD. ")


def build_tokenizer(words: tuple[str, ...] = WORDS, phrases: tuple[str, ...] = PHRASES) -> PreTrainedTokenizerFast:
    """A tokenizer that knows the special tokens, `words` and `phrases` whole, and single characters."""
    single = tuple(ascii_letters + digits + " ?.,:-\n")
    whole = sorted(("\n\n", "user", "assistant", "system", *phrases, *words), key=lambda text: (-len(text), text))
    tokens = ("<unk>", *SPECIAL, *whole, *single)
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    # A word is a token only where no letter touches it, so a value that happens to spell a key stays characters.
    keys = "|".join(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" if word in words else re.escape(word)
                    for word in whole)
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{keys}|[\s\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=BOS, eos_token=EOS, pad_token=EOS, mask_token=MASK, unk_token="<unk>",
        additional_special_tokens=[START_HEADER, END_HEADER, EOT, IMAGE], clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def prompt_ids(tokenizer, question: str) -> tuple[list[int], list[int]]:
    """Token ids before and after the visual tokens for one question, no system message."""
    before, after = tokenize(tokenizer, render(None, user_text(question, 1)))
    return before, after


def answer_ids(tokenizer, answer: str, length: int) -> list[int]:
    """The response: the answer, words whole and values a character a token, then `<|eot_id|>` up to `length`.

    Raises ValueError when the answer and one end token do not fit.
    """
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if len(ids) >= length:
        raise ValueError(f"answer {answer!r} has {len(ids)} tokens, expected fewer than {length}")
    return ids + [tokenizer.convert_tokens_to_ids(EOT)] * (length - len(ids))
