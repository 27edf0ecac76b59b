"""`Conversation`: how a model that joins texts and images was asked when it was trained."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxpool.errors import RequestError
from jaxpool.images.tiles import TileGrid, TileWords
from jaxpool.tasks.input_types import meaning

UNUSED = range(0xFDD0, 0xFDF0)  # code points that Unicode keeps for a program's own use


@dataclass(frozen=True)
class Conversation:
    """The words around texts and images.

    placeholder: the token at whose place an image stands; image: what stands for an image in a
    prompt, the placeholder in it; written: a pattern of what callers write in the placeholder's
    stead; around: the tokens before and after an image's own, wherever its placeholder is; tiles:
    what that becomes where images are cut into tiles; seen, read: the prompt of what has an image,
    and of a text alone, with {content}, {instruction} and {images}, where all images stand that
    would else stand among the texts; both: the prompt of an image with a text, where that is
    another; sides: that of a text which is a "query", or a "document"; instruction, caption: those
    of a caller who gives none (the caption is for images without text);
    special_tokens: whether the tokenizer adds its own; last: the id of a token after each prompt;
    blank: pixels of the side of a black image, which stands where the words of a text alone have
    one; counted: the tokens of an image are counted like those of a text, where others have the
    rows and columns of the image (M-RoPE); told: the words where a caller gives an instruction, if
    they are others; trims: white space around texts goes; by_key: a prompt whose parts have names
    keeps their order, where others have images first; most: images of a prompt; apart: the texts
    around images are each tokenized by itself.
    """

    placeholder: str
    image: str
    written: str = ""
    around: tuple[str, ...] = ()
    tiles: TileWords | TileGrid | None = None
    seen: str = "{content}"
    both: str = ""
    read: str = "{content}"
    sides: Mapping[str, str] = field(default_factory=dict)
    instruction: str = ""
    caption: str = ""
    special_tokens: bool = True
    last: int | None = None
    blank: int = 0
    counted: bool = False
    told: "Conversation | None" = None
    trims: bool = False
    by_key: bool = False
    most: int = 999
    apart: bool = False

    def of(self, input_type: str | None) -> "Conversation":
        """The words for what a text is for (see `input_types`)."""
        read = self.sides.get(meaning(input_type or ""), self.read)
        return replace(self, read=read, told=self.told and self.told.of(input_type))

    @property
    def plain(self) -> bool:
        """Whether a text alone has no words around it."""
        return self.read == "{content}"

    def is_written(self, prompt: str, images: bool = False) -> bool:
        """Whether a prompt begins as those do that are in these words already."""
        words = [self.seen] if images else [self.read, *self.sides.values()]
        starts = [one.partition("{")[0] or (self.image if images else "") for one in words]
        own = any(start and prompt.startswith(start) for start in starts)
        return own or bool(self.told and self.told.is_written(prompt, images))

    def spelled(self, prompt: str) -> str:
        """A caller's own prompt, its images by the placeholder.

        RequestError where these have numbers and are not in their order.
        """
        if not self.written:
            return prompt
        numbers = [int(match[1]) for match in re.finditer(self.written, prompt) if match.lastindex]
        if numbers != list(range(1, len(numbers) + 1)):
            raise RequestError(f"images must be numbered as they come, from 1; found {numbers}")
        return re.sub(self.written, self.placeholder, prompt)

    def put(self, content: str, instruction: str, images: bool, before: str = "") -> str:
        """Contents in the words around them; an instruction without a place comes before them.

        before: what stands for the images, where these have a place of their own.
        """
        if instruction and self.told:
            return self.told.put(content, instruction, images, before)
        words = (self.seen if images else self.read).replace("{images}", before)
        if "{instruction}" not in words:
            content = instruction + content
        before, _, after = words.replace(
            "{instruction}", instruction or self.instruction
        ).partition("{content}")
        return before + content + after

    def write(self, parts: Sequence[str | None], instruction: str = "") -> str:
        """The prompt of some parts, texts and images (None)."""
        before = self.image * parts.count(None) if "{images}" in self.seen else ""
        among = "" if before else self.image
        if self.trims:
            parts = [part and part.strip() for part in parts]
        content = "".join(among if part is None else part for part in parts)
        caption = "" if any(parts) else self.caption
        asked = replace(self, seen=self.both) if self.both and any(parts) else self
        return asked.put(content + caption, instruction, None in parts, before)


@dataclass(frozen=True)
class Literal:
    """A code point in place of a placeholder that a text spells out, so that it stays text."""

    placeholder: str
    sign: str

    @classmethod
    def of(cls, placeholder: str, texts: Sequence[str]) -> "Literal":
        """One that no text has."""
        free = (chr(point) for point in UNUSED if not any(chr(point) in text for text in texts))
        return cls(placeholder, next(free))

    def hide(self, text: str) -> str:
        """A text with the sign in place of placeholders."""
        return text.replace(self.placeholder, self.sign)

    def show(self, prompt: str) -> tuple[str, list[bool]]:
        """A prompt as it is to be read, and which of its placeholders are images."""
        found = re.findall(f"{self.sign}|{re.escape(self.placeholder)}", prompt)
        images = [one == self.placeholder for one in found]
        return prompt.replace(self.sign, self.placeholder), images
