"""What a caller allows of pictures: `MediaOptions`, under vLLM's names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxpool.errors import RequestError
from jaxpool.images.cache import Cache
from jaxpool.images.fetch import SCHEMES, Fetch
from jaxpool.text.prompts import Url


@dataclass(frozen=True)
class MediaOptions:
    """Where pictures may come from, how many, and how they are prepared.

    allowed_media_domains: hosts whose http(s) URLs are fetched ("*": every public one), none unless
    named; allowed_local_media_path: the folder of `file:` URLs; limit_mm_per_prompt: {"image": the
    most pictures of a prompt}; mm_processor_kwargs: what replaces fields of the checkpoint's
    preprocessor_config.json (sizes and filters alone: scale and mean are folded into the weights);
    mm_processor_cache_gb: GiB of host memory for what is kept of pictures between calls.
    """

    allowed_media_domains: Sequence[str] | None = None
    allowed_local_media_path: str = ""
    limit_mm_per_prompt: Mapping[str, Any] = field(default_factory=dict)
    mm_processor_kwargs: Mapping[str, Any] | None = None
    mm_processor_cache_gb: float = 0.0

    def __post_init__(self):
        self.most_images(0)  # a wrong limit is refused where it is given
        if not 0 <= self.mm_processor_cache_gb < 2**20:
            raise ValueError(
                f"mm_processor_cache_gb must be 0 or more, got {self.mm_processor_cache_gb}"
            )

    @cached_property
    def cache(self) -> Cache:
        """The patches of pictures, and the results of those that are read by themselves."""
        return Cache(int(self.mm_processor_cache_gb * 2**30))

    @property
    def fetch(self) -> Fetch:
        """What reads URLs."""
        return Fetch(tuple(self.allowed_media_domains or ()), self.allowed_local_media_path or None)

    def most_images(self, able: int) -> int:
        """The most pictures of a prompt, for a model that can take so many."""
        limit = self.limit_mm_per_prompt.get("image", able)
        limit = limit.get("count", able) if isinstance(limit, Mapping) else limit
        if not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit_mm_per_prompt: wanted a number of images, got {limit!r}")
        return min(limit, able)

    def check_count(self, images: int, able: int) -> None:
        """Refuse a prompt of too many pictures."""
        if images > (most := self.most_images(able)):
            message = f"At most {most} image(s) may be provided in one prompt."
            raise RequestError(message, "image")

    def opened(self, source: Any) -> Any:
        """A picture's source, that of a URL as the bytes behind it."""
        if isinstance(source, Url) or _is_url(source):
            return self.fetch(source)
        return source


def _is_url(source: Any) -> bool:
    return isinstance(source, str) and source.partition(":")[0].lower() in SCHEMES
