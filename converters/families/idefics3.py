"""Idefics3 and ModernVBERT: SigLIP reads tiles of an image, for late interaction with queries.

ColSmol and ColIdefics3 have Llama as their text model, ColModernVBERT has ModernBERT. Words are
those of transformers' processor where it has one, else those of the authors' colpali-engine.
Sources: arXiv 2408.12637, 2407.01449, 2510.01149.
"""

from dataclasses import replace

from converters.families import modernbert
from converters.families.decoder import arch as decoder_arch
from converters.family import Family
from converters.heads.classifiers import token_vectors
from converters.joined import llama_names, under
from converters.towers import PICTURES, vision_arch
from jaxpool.images.conversation import Conversation
from jaxpool.images.tiles import TileWords
from jaxpool.nn.arch import Arch, Merger


def _tower(config, side: int) -> Arch:
    merger = Merger(config.text_config.hidden_size, side, bias=False)
    return vision_arch(config, merger=merger)


def idefics3_arch(config) -> Arch:
    """Llama beside SigLIP."""
    return decoder_arch(config.text_config, vision=_tower(config, config.scale_factor))


def modernvbert_arch(config) -> Arch:
    """ModernBERT beside SigLIP."""
    tower = _tower(config, config.pixel_shuffle_factor)
    return modernbert.arch(config.text_config).replace(vision=tower)


CONNECTOR = "vision.merger.out.kernel connector.modality_projection{}.weight t m\n"
FAKE = "<fake_token_around_image>"
TILES = TileWords(
    tile=f"{FAKE}<row_{{row}}_col_{{col}}>{{image}}",
    end="\n",
    whole=f"\n{FAKE}<global-img>{{image}}{FAKE}",
    alone=f"{FAKE}<global-img>{{image}}{FAKE}",
)


def conversation(start: str, query: str = "") -> Conversation:
    """The words, by what a prompt with an image starts with, and what precedes a query."""
    return Conversation(
        placeholder="<image>",
        image="<image>",
        tiles=TILES,
        seen=f"{start}User:{{content}}<end_of_utterance>\nAssistant:",
        sides={"query": f"{query}{{content}}{'<end_of_utterance>' * 10}"},
        caption="Describe the image.",
    )


COLIDEFICS3 = Family(
    "ColIdefics3",
    idefics3_arch,
    llama_names("text_model.") + PICTURES + CONNECTOR.format(".proj"),
    prefix="model.",
    heads={"Model": token_vectors("linear")},
    ignored=(r"^lm_head\.",),
    conversation=conversation("<|im_start|>", "Query: "),
    processor="Idefics3",
    examples=("vidore/colSmol-256M", "vidore/colSmol-500M"),
)
COLMODERNVBERT_ENGINE = replace(
    COLIDEFICS3,
    name="ColModernVBert",
    arch=modernvbert_arch,
    names=under("text_model.", modernbert.MODERNBERT.table(None)) + PICTURES + CONNECTOR.format(""),
    heads={"Model": token_vectors("custom_text_proj")},
    config="modernvbert",
    conversation=conversation("<|begin_of_text|>"),
    examples=("ModernVBERT/colmodernvbert",),
)
COLMODERNVBERT = replace(
    COLMODERNVBERT_ENGINE,
    arch=lambda config: modernvbert_arch(config.vlm_config),
    prefix="vlm.",
    heads={"Retrieval": token_vectors("embedding_proj_layer")},
    config="",
    examples=("ModernVBERT/colmodernvbert-merged",),
)
