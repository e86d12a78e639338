"""Text to token ids and back.

The merging is the ``tokenizers`` library's; what is ours is the policy: one beginning-of-sequence
token and only where the model asks for it, no control token made out of plain text, and one rule
for cutting a text into a context and its continuation.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import tokenizers

from evalkit.engine.errors import TokenizerError


class Alphabet(StrEnum):
    """How a token's name spells its bytes."""

    BYTE_LEVEL = "byte_level"  # each byte is one printable character (GPT-2)
    METASPACE = "metaspace"  # text with ▁ for the space, and <0xHH> for a byte (SentencePiece)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialIds:
    """The tokens that frame a text; ``adds_bos`` says whether the model was trained with BOS."""

    bos: int | None
    eos: int | None
    ends: frozenset[int]  # any of these ends a turn; holds ``eos``
    adds_bos: bool


class Tokenizer:
    """A model's tokenizer. Build it with ``tokenizer_from_gguf`` or ``tokenizer_from_folder``."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        specials: SpecialIds,
        alphabet: Alphabet,
        strips_first_space: bool = False,
    ) -> None:
        self.bos_id = specials.bos
        self.eos_id = specials.eos
        self.eos_ids = specials.ends
        self.adds_bos = specials.adds_bos
        self._alphabet = alphabet
        self._strips_first_space = strips_first_space
        # A tokenizer.json may ask to truncate or pad: never behind the caller's back.
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # in the library's words: encode them as plain text
        self._plain = backend
        self._parsing: tokenizers.Tokenizer | None = None
        self._added = dict(backend.get_added_tokens_decoder())
        self._bytes: dict[int, bytes] = {}

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        return self._plain.get_vocab_size(with_added_tokens=True)

    @property
    def bos_token(self) -> str:
        """The text of BOS, as a chat template writes it; empty if there is none."""
        return self._name(self.bos_id)

    @property
    def eos_token(self) -> str:
        """The text of EOS; empty if there is none."""
        return self._name(self.eos_id)

    def encode(self, text: str, *, bos: bool = True, parse_special: bool = False) -> list[int]:
        """The ids of a text, after one BOS if the model asks for it and ``bos`` does not forbid it.

        Control tokens spelled out in the text are read as text unless ``parse_special``, which is
        for prompts laid out by a chat template. A byte for which the vocabulary has no token (some
        control characters, in SmolLM2) is left out, as by the tokenizer that the model was trained
        with. Raises TokenizerError for a text that is not Unicode (a lone surrogate).
        """
        backend = self._parser() if parse_special else self._plain
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as e:
            raise TokenizerError(f"the text has a lone surrogate at character {e.start}") from e
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        if bos and self.adds_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def encode_pair(
        self, context: str, continuation: str, *, parse_special: bool = False
    ) -> tuple[list[int], list[int]]:
        """As ``encode_pairs`` of one continuation."""
        [pair] = self.encode_pairs(context, [continuation], parse_special=parse_special)
        return pair

    def encode_pairs(
        self, context: str, continuations: Sequence[str], *, parse_special: bool = False
    ) -> list[tuple[list[int], list[int]]]:
        """The ids of a context and of each of what may follow it; no list is empty.

        White space at the end of the context moves to the continuation, the whole is encoded, and
        cut where the context alone would end; so the two lists together are ``encode(context +
        continuation)``. If nothing is left of the context it is BOS, or else EOS, put before. With
        ``parse_special`` the context is a rendered chat, whose white space stays where it is.
        Raises TokenizerError if there is nothing to score.

        Source: the rule of lm-evaluation-harness, ``TemplateLM._encode_pair``, but for a token
        that spans the cut and is the last: it counts as continuation, so that there always is one.
        """
        space = ""
        if not parse_special:
            kept = context.rstrip()
            context, space = kept, context[len(kept) :]
        alone = self.encode(context, parse_special=parse_special)
        pairs = []
        for continuation in continuations:
            whole = self.encode(context + space + continuation, parse_special=parse_special)
            if whole == alone:
                raise TokenizerError(
                    f"the continuation {space + continuation!r} has no tokens to score"
                )
            n_context = min(len(alone), len(whole) - 1)
            pairs.append(
                (whole[:n_context], whole[n_context:]) if n_context else ([self.prefix_id], whole)
            )
        return pairs

    @property
    def prefix_id(self) -> int:
        """What stands before a text that has no context: BOS, or else EOS.

        Raises TokenizerError if the model has neither.
        """
        prefix = self.eos_id if self.bos_id is None else self.bos_id
        if prefix is None:
            raise TokenizerError("an empty context needs a BOS or EOS token, and there is neither")
        return prefix

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, control tokens left out; bytes that are not UTF-8 become U+FFFD."""
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if self._strips_first_space else text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to a text: none for a control token or an unused id."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._spell(token_id)
        return known

    def _name(self, token_id: int | None) -> str:
        return "" if token_id is None else self._plain.id_to_token(token_id) or ""

    def _spell(self, token_id: int) -> bytes:
        added = self._added.get(token_id)
        if added is not None:
            return b"" if added.special else str(added.content).encode("utf-8")
        name = self._plain.id_to_token(token_id)
        if name is None:
            return b""
        if self._alphabet is Alphabet.BYTE_LEVEL:
            return bytes(_BYTE_OF[character] for character in name)
        if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            return bytes.fromhex(name[3:5])
        return name.replace("▁", " ").encode("utf-8")

    def _parser(self) -> tokenizers.Tokenizer:
        """A second copy that does read control tokens: a switch would not be thread-safe."""
        if self._parsing is None:
            parsing = tokenizers.Tokenizer.from_str(self._plain.to_str())
            parsing.encode_special_tokens = False
            self._parsing = parsing
        return self._parsing


class Detokenizer:
    """Text from ids as they come; the start of a character waits for its other bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, ids: Sequence[int]) -> str:
        """The text that became complete with these ids."""
        return self._decoder.decode(b"".join(map(self._tokenizer.token_bytes, ids)))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that never became complete."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


def byte_alphabet() -> dict[int, str]:
    r"""GPT-2's spelling: a character for each of the 256 bytes, none of them white space.

    Printable Latin-1 stands for itself; the others follow from U+0100 on, in order.

    Source: openai/gpt-2, ``encoder.py``, ``bytes_to_unicode``.

    >>> alphabet = byte_alphabet()
    >>> alphabet[ord("a")], alphabet[ord(" ")], alphabet[ord("\n")]
    ('a', 'Ġ', 'Ċ')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(0x100 + rank) for rank, byte in enumerate(others)
    }


_BYTE_OF = {character: byte for byte, character in byte_alphabet().items()}
