"""Late interaction of queries and pages on Qwen-VL: ColQwen2, 2.5 and 3 (arXiv 2407.01449).

Words are those of the processors: transformers' for its own layout, else those that the authors'
colpali-engine had when the models were trained. All have the rows and columns of an image's tokens,
as that code; transformers' ColQwen2 counts them instead, unless it is given their positions.
"""

from dataclasses import replace

from converters.families import qwen2_vl
from converters.families.qwen2_5_vl import QWEN2_5_VL
from converters.families.qwen2_vl import QWEN2_VL, RENAMES
from converters.families.qwen3_vl import QWEN3_VL
from converters.heads.classifiers import token_vectors
from converters.joined import AS_WRITTEN, llama_names, under
from jaxpool.nn.arch import Arch

BUFFER = "<|endoftext|>" * 10
WORDS = replace(
    AS_WRITTEN,
    seen="<|im_start|>user\n{content}<|im_end|><|endoftext|>",
    caption="Describe the image.",
)
TRANSFORMERS = replace(WORDS, sides={"query": f"Query: {{content}}{BUFFER}\n"})
ENGINE = replace(WORDS, sides={"query": f"Query: {{content}}{BUFFER}"})
BARE = replace(WORDS, sides={"query": f"{{content}}{BUFFER}"})
NESTED = (
    (r"^vlm\.model\.(language_model|visual)\.", r"vlm.\1."),
    (r"^vlm\.(?:model\.)?(layers|embed_tokens|norm)\.", r"vlm.language_model.\1."),
)
PROJECTION = {"Model": token_vectors("custom_text_proj")}


def arch(config) -> Arch:
    """Qwen2-VL within the configuration."""
    return qwen2_vl.arch(config.vlm_config)


COLQWEN2 = replace(
    QWEN2_VL,
    name="ColQwen2",
    arch=arch,
    names=llama_names("language_model.") + under("visual.", qwen2_vl.TOWER, "vision."),
    prefix="vlm.",
    heads={"Retrieval": token_vectors("embedding_proj_layer")},
    renames=NESTED,
    ignored=(r"lm_head\.",),
    conversation=TRANSFORMERS,
    examples=("vidore/colqwen2-v1.0-hf",),
)
COLQWEN2_ENGINE = replace(
    QWEN2_VL,
    name="ColQwen2",
    heads=PROJECTION,
    renames=((r"^model\.model\.", "model."), *RENAMES),
    conversation=ENGINE,
    examples=("vidore/colqwen2-v1.0",),
)
COLQWEN2_5 = replace(
    COLQWEN2_ENGINE,
    name="ColQwen2_5",
    arch=QWEN2_5_VL.arch,
    names=QWEN2_5_VL.names,
    examples=("vidore/colqwen2.5-v0.2", "nomic-ai/colnomic-embed-multimodal-3b"),
)
COLQWEN3 = replace(
    QWEN3_VL,
    name="ColQwen3",
    config="qwen3_vl",
    heads=PROJECTION,
    renames=(
        (r"^vlm\.", ""),
        (r"^embedding_proj_layer\.", "custom_text_proj."),
        (r"^language_model\.model\.", "language_model."),
        (r"^language_model\.lm_head\.", "lm_head."),
        (r"^(visual|language_model)\.", r"model.\1."),
        (r"^model\.(layers|embed_tokens|norm)\.", r"model.language_model.\1."),
    ),
    conversation=BARE,
    examples=("TomoroAI/tomoro-colqwen3-embed-4b", "OpenSearch-AI/Ops-Colqwen3-4B"),
)
