"""What a message or an input of several parts holds: texts and pictures."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """One chat message; `content` is a text or a list of parts."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[str | dict[str, Any]] | None = None

    @property
    def parts(self) -> list[str | dict[str, Any]]:
        """The parts of its content."""
        return self.content if isinstance(self.content, list) else [self.content or ""]


class MediaInput(BaseModel):
    """A text or a picture (a data: URL, or base64), as Jina's clients send them."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    image: str | None = None

    @property
    def parts(self) -> list[str | dict[str, Any]]:
        """The same as parts of a content."""
        if self.image is None:
            return [self.text or ""]
        url = self.image if ":" in self.image[:6] else f"data:image/*;base64,{self.image}"
        texts = [{"type": "text", "text": self.text}] if self.text else []
        return [{"type": "image_url", "image_url": url}, *texts]


class CohereContent(BaseModel):
    """One part of a Cohere input."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: dict[str, str] | None = None


class CohereInput(BaseModel):
    """A Cohere input of several parts."""

    content: list[CohereContent]

    @property
    def parts(self) -> list[str | dict[str, Any]]:
        """The same as parts of a content."""
        return [part.model_dump(exclude_none=True) for part in self.content]
