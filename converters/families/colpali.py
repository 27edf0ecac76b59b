"""ColPali: SigLIP and Gemma, for late interaction of queries and pages (arXiv 2407.01449).

Every token sees all others, as in training. Words are those of the processors, transformers' for
its own layout, and those that colpali-engine had when the models were trained for others.
"""

from dataclasses import replace

from converters.families.gemma import gemma_arch
from converters.family import Family, dense
from converters.heads.classifiers import token_vectors
from converters.joined import llama_names
from converters.towers import PICTURES, vision_arch
from jaxpool.images.conversation import Conversation
from jaxpool.nn.arch import Arch, Merger


def paligemma_arch(config) -> Arch:
    """Gemma beside SigLIP, whose patches are as many tokens."""
    text = config.text_config
    tower = vision_arch(config, merger=Merger(text.hidden_size))
    return gemma_arch(text, vision=tower)


def arch(config) -> Arch:
    """PaliGemma within the configuration."""
    return paligemma_arch(config.vlm_config)


NAMES = (
    llama_names("language_model.model.")
    + PICTURES.replace("vision_model.", "vision_tower.")
    + dense("vision.merger.out", "multi_modal_projector.linear", "t m")
)


def conversation(query: str, start: str) -> Conversation:
    """The words, by what precedes a query, and a caption."""
    return Conversation(
        placeholder="<image>",
        image=f"<image>{start}",
        seen="{content}\n",
        sides={
            "query": f"<bos>{query}{{content}}{'<pad>' * 10}\n",
            "document": "<bos>{content}",
        },
        caption="Describe the image.",
        special_tokens=False,
    )


RENAMES = (
    (r"^vlm\.model\.", "vlm."),
    (r"language_model\.(?!model\.)", "language_model.model."),
    (r"vision_tower\.vision_model\.", "vision_tower."),
)
COLPALI = Family(
    "ColPali",
    arch,
    NAMES,
    prefix="vlm.",
    heads={"Retrieval": token_vectors("embedding_proj_layer")},
    renames=RENAMES,
    ignored=(r"lm_head\.", r"vision_tower\.head\."),
    conversation=conversation("Question: ", "<bos>"),
    processor="Siglip",
    examples=("vidore/colpali-v1.3-hf",),
)
COLPALI_ENGINE = replace(
    COLPALI,
    arch=paligemma_arch,
    prefix="model.",
    heads={"Model": token_vectors("custom_text_proj")},
    renames=((r"^model\.model\.", "model."), *RENAMES[1:]),
    conversation=conversation("Query: ", "<bos><bos>"),  # one is its processor's, one its own
    examples=("vidore/colpali-v1.3",),
)
