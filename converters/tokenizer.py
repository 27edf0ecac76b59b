"""A tokenizer as transformers makes it of a checkpoint's files, kept for later starts.

tokenizer.json is not all that decides ids: the class that tokenizer_config.json or config.json
names sets the normalizer by its own fields and defaults, and four more places add tokens. The
libraries that models are published with ask transformers, so it is asked here.
"""

import hashlib
import json
import logging
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.processors import TemplateProcessing

from converters.files.folder import TOKENIZER, digests, keep, read_json
from converters.normalizers import check_growth
from converters.report import CheckpointError
from jaxpool.text.tokenizer import NO_LIMIT, Facts

log = logging.getLogger("jaxpool")

NAMES = tuple(f"{n}_token" for n in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


def read_tokenizer(folder: Path, store: Path | None = None) -> tuple[FastTokenizer, Facts]:
    """The tokenizer of a folder, which runs without transformers, and what goes with it.

    Both are kept in the folder `store`, where later starts find them. Code of the checkpoint is
    never run.
    """
    name = f"tokenizer-{_digest(folder)}"
    file, facts = (store and store / f"{name}{end}.json" for end in ("", "-facts"))
    if facts and facts.is_file():  # it is written last
        return FastTokenizer.from_file(str(file)), Facts(**read_json(facts))
    made = from_transformers(folder)
    text, found = _fast(made), _facts(made)
    check_growth(json.loads(text))
    if store:
        keep(store, f"{name}.json", text)
        keep(store, f"{name}-facts.json", json.dumps(asdict(found)))
    return FastTokenizer.from_str(text), found


def bare_tokenizer(folder: Path) -> tuple[FastTokenizer, Facts]:
    """tokenizer.json alone, as static models read it; it puts no special tokens around a text."""
    check_growth(read_json(folder / "tokenizer.json"))
    try:
        fast = FastTokenizer.from_str((folder / "tokenizer.json").read_text("utf-8-sig"))
    except Exception as error:  # the library has no other kind
        raise CheckpointError(f"{folder / 'tokenizer.json'} cannot be read: {error}") from error
    fast.post_processor = TemplateProcessing(single="$A", pair="$A $B:1")
    said = special_tokens(folder)
    limit = int(min(said.get("model_max_length") or NO_LIMIT, NO_LIMIT))
    return fast, Facts(_contents(said), max_length=limit)


def special_tokens(folder: Path) -> dict:
    """tokenizer_config.json, over what special_tokens_map.json says."""
    names = ("special_tokens_map", "tokenizer_config")
    files = (read_json(folder / f"{name}.json", default={}) for name in names)
    return {key: value for content in files for key, value in content.items()}


def _contents(said: dict) -> dict[str, str]:
    tokens = {name: said.get(name) for name in NAMES}
    found = {n: t["content"] if isinstance(t, dict) else t for n, t in tokens.items()}
    return {name: token for name, token in found.items() if token is not None}


def from_transformers(folder: Path):
    """The transformers object of a folder; CheckpointError where there can be none."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    json_file = folder / "tokenizer.json"
    if not json_file.is_file():
        _check_sentencepiece(folder)
    own_code = "auto_map" in read_json(folder / "tokenizer_config.json", default={})
    try:
        made = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of many kinds, by what is wrong in the files
        if not (own_code and json_file.is_file()):
            reason = " ".join(str(error).split())
            raise CheckpointError(f"the tokenizer of {folder} cannot be read: {reason}") from error
        log.warning("the tokenizer's own code is not run; tokenizer.json is read without it")
    else:
        if not json_file.is_file() or _same_kind(made, read_json(json_file)):
            return made
        log.warning(
            "tokenizer.json is not of the kind that %s is, which transformers takes for it by the "
            "files; tokenizer.json is read without that class",
            type(made).__name__,
        )
    return PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)


def _same_kind(made, written: dict) -> bool:
    """Whether a class that builds its tokenizer anew builds one of the kind that the file has.

    The class goes by the model's type, and a model's authors may have taken another tokenizer.
    """
    kinds = [_kind(json.loads(_fast(made))), _kind(written)]
    return None in kinds[1] or kinds[0] == kinds[1]


def _kind(parts: dict) -> tuple:
    byte_level = '"ByteLevel"' in json.dumps(parts.get("pre_tokenizer"))
    return parts["model"].get("type"), byte_level


def _check_sentencepiece(folder: Path) -> None:
    if model := next(folder.glob("*.model"), None):
        try:
            import_module("sentencepiece")
            import_module("google.protobuf")
        except ImportError as error:
            raise ImportError(
                f"{model.name} alone holds the tokenizer: pip install 'jaxpool[sentencepiece]'"
            ) from error


def _fast(made) -> str:
    backend = getattr(made, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"{type(made).__name__} has no form that the tokenizers library runs")
    return backend.to_str()


def _facts(made) -> Facts:
    named = {name: getattr(made, name) for name in NAMES}
    return Facts(
        names={name: str(token) for name, token in named.items() if token is not None},
        typed=_typed(made),
        max_length=int(min(made.model_max_length or NO_LIMIT, NO_LIMIT)),
        side=made.truncation_side,
        split=bool(made.split_special_tokens),
    )


def _typed(made) -> bool:
    from transformers import PreTrainedTokenizerFast

    # Version 4 passed token types unless a file said otherwise, and models were trained with it.
    unsaid = "model_input_names" not in made.init_kwargs
    generic = type(made) is PreTrainedTokenizerFast
    return (generic and unsaid) or "token_type_ids" in made.model_input_names


def _digest(folder: Path) -> str:
    """A digest of all that decides what comes out, this file among it."""
    libraries = [version(name) for name in ("transformers", "tokenizers")]
    files = digests(folder, ("config.json", *TOKENIZER))
    made_by = [*libraries, Path(__file__).read_text(encoding="utf-8"), files]
    return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:32]
