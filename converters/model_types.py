"""The family of each `model_type` of a config.json."""

from converters.families.albert import ALBERT
from converters.families.apertus import APERTUS, HUNYUAN, HUNYUAN_MOE
from converters.families.bart import BART, MBART
from converters.families.bert import BERT, ERNIE
from converters.families.bidirectional import LLAMA_BIDIRECTIONAL, PPLX
from converters.families.big_bird import BIG_BIRD
from converters.families.bigbird_pegasus import BIGBIRD_PEGASUS
from converters.families.bloom import BLOOM, MPT
from converters.families.clip import CLIP
from converters.families.cohere import COHERE, COHERE2, PHI, STABLELM
from converters.families.colpali import COLPALI
from converters.families.colqwen import COLQWEN2, COLQWEN3
from converters.families.convbert import CONVBERT
from converters.families.cost_wise_gemma import COST_WISE_GEMMA
from converters.families.deberta import DEBERTA, DEBERTA_V2
from converters.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3, GLM4_MOE_LITE, MINICPM3, YOUTU
from converters.families.dinov2 import DINOV2, DINOV2_WITH_REGISTERS
from converters.families.distilbert import DISTILBERT
from converters.families.dpr import BERT_GENERATION, DPR
from converters.families.electra import ELECTRA
from converters.families.embedding_gemma2 import EMBEDDING_GEMMA2, EMBEDDING_GEMMA2_TEXT
from converters.families.eurobert import EUROBERT
from converters.families.falcon import FALCON
from converters.families.fnet import FNET
from converters.families.gemma import GEMMA, GEMMA2, GEMMA3, GEMMA3_VISION, VAULT_GEMMA
from converters.families.glm import ERNIE4_5, GLM, GLM4, HELIUM
from converters.families.gpt2 import GPT2
from converters.families.gpt_neo import GPT_BIGCODE, GPT_NEO, OPENAI_GPT
from converters.families.gpt_neox import GPT_NEOX, GPTJ
from converters.families.gpt_oss import GPT_OSS, OPENAI_PRIVACY_FILTER
from converters.families.granite import GRANITE_HYBRID, GRANITE_MOE, GRANITE_MOE_SHARED
from converters.families.gte import GTE, NEW
from converters.families.idefics3 import COLMODERNVBERT
from converters.families.internlm2 import INTERNLM2
from converters.families.jamba import JAMBA
from converters.families.jina_clip import JINA_CLIP
from converters.families.jina_v3 import JINA_V3
from converters.families.jina_v5 import JINA_V5
from converters.families.lfm2 import LFM2, LFM2_BIDIRECTIONAL
from converters.families.lfm2_moe import LFM2_MOE
from converters.families.llama import (
    ARCEE,
    GRANITE,
    INTERNLM3,
    IQUESTCODER,
    LLAMA,
    MINISTRAL,
    MISTRAL,
    MIXTRAL,
    OLMO2,
    OLMO3,
    SEED_OSS,
    SMOLLM3,
)
from converters.families.llava_next import LLAVA_NEXT
from converters.families.longformer import LONGFORMER
from converters.families.ministral3 import MINISTRAL3
from converters.families.mobilebert import MOBILEBERT
from converters.families.modernbert import MODERNBERT
from converters.families.modernbert_decoder import MODERNBERT_DECODER
from converters.families.mpnet import MPNET
from converters.families.mvp import MVP, PLBART
from converters.families.nemotron import JAIS2, NEMOTRON, PERSIMMON
from converters.families.nemotron_colembed import NEMOTRON_COLEMBED
from converters.families.nemotron_nas import NEMOTRON_NAS
from converters.families.nemotron_vl import NEMOTRON_VL
from converters.families.nemotron_vl_rerank import NEMOTRON_VL_RERANK
from converters.families.nomic import NOMIC
from converters.families.nvembed import NVEMBED
from converters.families.nystromformer import NYSTROMFORMER
from converters.families.olmo import CWM, EXAONE4, FLEX_OLMO, OLMO, OLMOE
from converters.families.opt import BIOGPT, OPT
from converters.families.phi3 import PHI3
from converters.families.phi3_v import PHI3_V
from converters.families.pre_norm import ESM, MEGATRON_BERT, ROBERTA_PRE_NORM, XLM_ROBERTA_XL
from converters.families.qwen import QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE
from converters.families.qwen2_5_vl import QWEN2_5_VL
from converters.families.qwen2_vl import QWEN2_VL
from converters.families.qwen3_5 import QWEN3_5, QWEN3_5_MOE, QWEN3_5_MOE_TEXT, QWEN3_5_TEXT
from converters.families.qwen3_vl import QWEN3_VL
from converters.families.rembert import REMBERT
from converters.families.roberta import CAMEMBERT, DATA2VEC, IBERT, LUKE, ROBERTA, XLM_ROBERTA
from converters.families.roformer import ROFORMER
from converters.families.siglip import SIGLIP, SIGLIP2
from converters.families.sparse import DOTS1, ERNIE4_5_MOE, GLM4_MOE
from converters.families.squeezebert import SQUEEZEBERT
from converters.families.starcoder2 import STARCODER2
from converters.families.static import STATIC
from converters.families.t5 import T5, UMT5
from converters.families.t5gemma import T5GEMMA
from converters.families.t5gemma2 import T5GEMMA2
from converters.families.telechat import TELECHAT2, TELECHAT3
from converters.families.ultrabert import ESMC, ULTRABERT
from converters.families.vit import VIT
from converters.families.xlm import FLAUBERT, XLM
from converters.families.xlnet import XLNET
from converters.families.xmod import XMOD
from converters.family import Family

FAMILIES: dict[str, Family] = {
    "albert": ALBERT,
    "apertus": APERTUS,
    "arcee": ARCEE,
    "bart": BART,
    "bert": BERT,
    "bert-generation": BERT_GENERATION,
    "bidirectional_pplx_qwen3": PPLX,
    "big_bird": BIG_BIRD,
    "bigbird_pegasus": BIGBIRD_PEGASUS,
    "biogpt": BIOGPT,
    "bloom": BLOOM,
    "camembert": CAMEMBERT,
    "clip": CLIP,
    "cohere": COHERE,
    "cohere2": COHERE2,
    "colmodernvbert": COLMODERNVBERT,
    "colpali": COLPALI,
    "colqwen2": COLQWEN2,
    "colqwen3": COLQWEN3,
    "convbert": CONVBERT,
    "cost_wise_gemma": COST_WISE_GEMMA,
    "cwm": CWM,
    "data2vec-text": DATA2VEC,
    "deberta": DEBERTA,
    "deberta-v2": DEBERTA_V2,
    "deepseek_v2": DEEPSEEK_V2,
    "deepseek_v3": DEEPSEEK_V3,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2_WITH_REGISTERS,
    "distilbert": DISTILBERT,
    "dots1": DOTS1,
    "dpr": DPR,
    "electra": ELECTRA,
    "embedding_gemma2": EMBEDDING_GEMMA2,
    "embedding_gemma2_text": EMBEDDING_GEMMA2_TEXT,
    "ernie": ERNIE,
    "ernie4_5": ERNIE4_5,
    "ernie4_5_moe": ERNIE4_5_MOE,
    "esm": ESM,
    "esmc": ESMC,
    "eurobert": EUROBERT,
    "exaone4": EXAONE4,
    "falcon": FALCON,
    "flaubert": FLAUBERT,
    "flex_olmo": FLEX_OLMO,
    "fnet": FNET,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3_VISION,
    "gemma3_text": GEMMA3,
    "glm": GLM,
    "glm4": GLM4,
    "glm4_moe": GLM4_MOE,
    "glm4_moe_lite": GLM4_MOE_LITE,
    "gpt-sw3": GPT2,
    "gpt2": GPT2,
    "gpt_bigcode": GPT_BIGCODE,
    "gpt_neo": GPT_NEO,
    "gpt_neox": GPT_NEOX,
    "gpt_oss": GPT_OSS,
    "gptj": GPTJ,
    "granite": GRANITE,
    "granitemoe": GRANITE_MOE,
    "granitemoehybrid": GRANITE_HYBRID,
    "granitemoeshared": GRANITE_MOE_SHARED,
    "gte": GTE,
    "helium": HELIUM,
    "hunyuan_v1_dense": HUNYUAN,
    "hunyuan_v1_moe": HUNYUAN_MOE,
    "ibert": IBERT,
    "internlm2": INTERNLM2,
    "internlm3": INTERNLM3,
    "iquestcoder": IQUESTCODER,
    "jais2": JAIS2,
    "jamba": JAMBA,
    "jina_clip": JINA_CLIP,
    "jina_embeddings_v3": JINA_V3,
    "jina_embeddings_v5": JINA_V5,
    "lfm2": LFM2,
    "lfm2_bidirectional": LFM2_BIDIRECTIONAL,
    "lfm2_moe": LFM2_MOE,
    "llama": LLAMA,
    "llama_bidirec": LLAMA_BIDIRECTIONAL,
    "llama_nemotron_vl": NEMOTRON_VL,
    "llama_nemotron_vl_rerank": NEMOTRON_VL_RERANK,
    "llava_next": LLAVA_NEXT,
    "longformer": LONGFORMER,
    "luke": LUKE,
    "mbart": MBART,
    "megatron-bert": MEGATRON_BERT,
    "minicpm3": MINICPM3,
    "ministral": MINISTRAL,
    "ministral3": MINISTRAL3,
    "mistral": MISTRAL,
    "mixtral": MIXTRAL,
    "mobilebert": MOBILEBERT,
    "model2vec": STATIC,
    "modernbert": MODERNBERT,
    "modernbert-decoder": MODERNBERT_DECODER,
    "mpnet": MPNET,
    "mpt": MPT,
    "mt5": T5,
    "mvp": MVP,
    "nemotron": NEMOTRON,
    "nemotron-nas": NEMOTRON_NAS,
    "new": NEW,
    "nomic_bert": NOMIC,
    "nvembed": NVEMBED,
    "nystromformer": NYSTROMFORMER,
    "olmo": OLMO,
    "olmo2": OLMO2,
    "olmo3": OLMO3,
    "olmoe": OLMOE,
    "openai-gpt": OPENAI_GPT,
    "openai_privacy_filter": OPENAI_PRIVACY_FILTER,
    "opt": OPT,
    "persimmon": PERSIMMON,
    "phi": PHI,
    "phi3": PHI3,
    "phi3_v": PHI3_V,
    "plbart": PLBART,
    "qwen2": QWEN2,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen2_moe": QWEN2_MOE,
    "qwen2_vl": QWEN2_VL,
    "qwen3": QWEN3,
    "qwen3_5": QWEN3_5,
    "qwen3_5_moe": QWEN3_5_MOE,
    "qwen3_5_moe_text": QWEN3_5_MOE_TEXT,
    "qwen3_5_text": QWEN3_5_TEXT,
    "qwen3_moe": QWEN3_MOE,
    "qwen3_vl": QWEN3_VL,
    "qwen3_vl_nemotron_embed": NEMOTRON_COLEMBED,
    "rembert": REMBERT,
    "roberta": ROBERTA,
    "roberta-prelayernorm": ROBERTA_PRE_NORM,
    "roformer": ROFORMER,
    "seed_oss": SEED_OSS,
    "siglip": SIGLIP,
    "siglip2": SIGLIP2,
    "smollm3": SMOLLM3,
    "squeezebert": SQUEEZEBERT,
    "stablelm": STABLELM,
    "starcoder2": STARCODER2,
    "t5": T5,
    "t5gemma": T5GEMMA,
    "t5gemma2": T5GEMMA2,
    "telechat": TELECHAT2,
    "telechat3": TELECHAT3,
    "ultrabert": ULTRABERT,
    "umt5": UMT5,
    "vaultgemma": VAULT_GEMMA,
    "vit": VIT,
    "xlm": XLM,
    "xlm-roberta": XLM_ROBERTA,
    "xlm-roberta-xl": XLM_ROBERTA_XL,
    "xlnet": XLNET,
    "xmod": XMOD,
    "youtu": YOUTU,
}
