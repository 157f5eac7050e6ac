"""The prompt of LLaDA-V and LaViDa: system text, chat template, image markers, tokenisation.

Source: official_code §2.6 and §4.3 (conversation.py, tokenizer_config.json, mm_utils.tokenizer_image_token).
"""

from __future__ import annotations

LLADA_V_SYSTEM = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
MARKER = "<image>"
END_OF_TURN = "<|eot_id|>"

TOKENS_BEFORE_IMAGE = 47
"""Of the template with its system text: start, system message and the user's header (official_code §2.6)."""

TOKENS_BEHIND_QUESTION = 6
"""End of turn, and the assistant's header with its two newlines, each a token (official_code §2.6, inferred there
for the 47 in the same way)."""


def prompt_tokens(question: int) -> int:
    """Text tokens of LLaDA-V's prompt with one image, of a question of ``question`` tokens."""
    return TOKENS_BEFORE_IMAGE + question + TOKENS_BEHIND_QUESTION


def user_text(question: str, images: int) -> str:
    """The user's message with one marker an image: those in the question, or all of them in front.

    Raises:
        ValueError: the question has markers, but not as many as there are images.
    """
    markers = question.count(MARKER)
    if markers and markers != images:
        raise ValueError(f"the question has {markers} {MARKER} markers, but {images} images were given")
    if markers or not images:
        return question
    return " ".join([MARKER] * images) + "\n" + question


def render(system: str | None, user: str) -> str:
    """The chat template: one system message (unless None), one user message, the assistant's header."""
    messages = ([("system", system)] if system is not None else []) + [("user", user)]
    body = "".join(
        f"<|start_header_id|>{role}<|end_header_id|>\n\n{text.strip()}{END_OF_TURN}" for role, text in messages
    )
    return f"<|startoftext|>{body}<|start_header_id|>assistant<|end_header_id|>\n\n"


def tokenize(tokenizer, text: str, keep_newline: bool = False) -> list[list[int]]:
    """Token ids of the pieces between image markers; one piece more than there are images.

    The official tokenisation removes the first token of every later piece, a rule meant for tokenizers
    that start each piece with BOS. Here that token is the newline behind the marker.

    Args:
        keep_newline: keep that token instead (as training did).
    """
    pieces = [tokenizer(piece, add_special_tokens=False).input_ids for piece in text.split(MARKER)]
    starts_with_bos = bool(pieces[0]) and pieces[0][0] == tokenizer.bos_token_id
    if keep_newline or not starts_with_bos:
        return pieces
    return [pieces[0]] + [piece[1:] for piece in pieces[1:]]
