"""Which family reads which checkpoint."""

from collections.abc import Callable, Mapping

from converters.families import gliclass, gliner
from converters.families.bidirectional import LLAMA_BIDIRECTIONAL, QWEN3_BIDIRECTIONAL, VOYAGE
from converters.families.biqwen import BIQWEN2_5
from converters.families.c2llm import C2LLM
from converters.families.clip import CLIP_CLASSIFIER
from converters.families.colpali import COLPALI_ENGINE
from converters.families.colqwen import COLQWEN2_5, COLQWEN2_ENGINE, COLQWEN3
from converters.families.deepseek import DEEPSEEK_V3_BIDIRECTIONAL
from converters.families.idefics3 import COLIDEFICS3, COLMODERNVBERT_ENGINE
from converters.families.jina_bert import JINA_BERT, JINA_BERT_QK
from converters.families.jina_v3 import JINA_FLASH
from converters.families.jina_v4 import JINA_V4
from converters.families.jina_v5 import JINA_V5
from converters.families.jina_vl import JINA_VL
from converters.families.lfm2 import LFM2_BIDIRECTIONAL
from converters.families.minicpm import MINICPM_LAYERWISE
from converters.families.ministral3 import MINISTRAL3_BIDIRECTIONAL
from converters.families.vit import SIGLIP_CLASSIFIER
from converters.family import Family
from converters.model_types import FAMILIES

# Published under another family's `model_type`: told apart by the code that config.json points
# to (a repository, or a configuration class), none of which ever runs.
REMOTE: dict[str, Family] = {
    "jinaai/jina-bert-v2-qk-post-norm": JINA_BERT_QK,
    "JinaBertConfig": JINA_BERT,
    "XLMRobertaFlashConfig": JINA_FLASH,
}
# By the `model_type` of a config.json that holds an encoder's: the family around the encoder's.
AROUND: dict[str, Callable[[Family], Family]] = {
    "GLiClass": gliclass.around,
    "gliner": gliner.around,
}
# By the architecture's name, where it says more than the model_type.
ARCHITECTURES: dict[str, Family] = {
    "BiQwen2_5": BIQWEN2_5,
    "C2LLMForEmbedding": C2LLM,
    "CLIPForImageClassification": CLIP_CLASSIFIER,
    "CodeFuse_CGE_Large": C2LLM,
    "ColIdefics3": COLIDEFICS3,
    "ColModernVBert": COLMODERNVBERT_ENGINE,
    "ColPali": COLPALI_ENGINE,
    "ColQwen2": COLQWEN2_ENGINE,
    "ColQwen2_5": COLQWEN2_5,
    "ColQwen3": COLQWEN3,
    "DeepseekV3BidirectionalModel": DEEPSEEK_V3_BIDIRECTIONAL,
    "JinaEmbeddingsV4Model": JINA_V4,
    "JinaEmbeddingsV5Model": JINA_V5,
    "JinaVLForRanking": JINA_VL,
    "LayerWiseMiniCPMForCausalLM": MINICPM_LAYERWISE,
    "Lfm2BidirectionalForMaskedLM": LFM2_BIDIRECTIONAL,
    "Lfm2BidirectionalModel": LFM2_BIDIRECTIONAL,
    "LlamaBidirectionalForSequenceClassification": LLAMA_BIDIRECTIONAL,
    "LlamaBidirectionalModel": LLAMA_BIDIRECTIONAL,
    "Ministral3BidirectionalModel": MINISTRAL3_BIDIRECTIONAL,
    "OpsColQwen3Model": COLQWEN3,
    "Qwen3BidirectionalModel": QWEN3_BIDIRECTIONAL,
    "SiglipForImageClassification": SIGLIP_CLASSIFIER,
    "VoyageQwen3BidirectionalEmbedModel": VOYAGE,
}


def find(config: Mapping) -> Family:
    """The family of a config.json; the error lists the supported model types."""
    repository, _, code = (config.get("auto_map") or {}).get("AutoConfig", "").rpartition("--")
    for name in (repository, config.get("_name_or_path"), code.rpartition(".")[2]):
        if name in REMOTE:
            return REMOTE[name]
    for name in config.get("architectures") or ():
        if name in ARCHITECTURES:
            return ARCHITECTURES[name]
    model_type = config.get("model_type")
    if model_type in AROUND:
        inner = {"model_type": "deberta-v2"} | (config.get("encoder_config") or {})
        return AROUND[model_type](find(inner))
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ValueError(f"unsupported architecture: model_type {model_type!r}; supported: {known}")
    return FAMILIES[model_type]
