"""Nystromformer: BERT with a convolution of values, as it attends where landmarks are tokens."""

from converters.families import bert
from converters.family import Family, require
from converters.heads.classifiers import ACTIVATED, bert_heads
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """Published models have a landmark a token, which makes attention exact."""
    require(config, num_landmarks=config.segment_means_seq_len)
    base = bert.arch(config)
    return base.replace(
        positions=base.positions + 2, position_offset=2, value_taps=config.conv_kernel_size or 0
    )


NYSTROMFORMER = Family(
    "Nystromformer",
    arch,
    bert.NAMES
    + "layers.attention.conv.kernel encoder.layer.{L}.attention.self.conv.weight K 1 A 1\n",
    prefix="nystromformer.",
    heads=bert_heads("nystromformer.") | {"SequenceClassification": ACTIVATED},
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^cls\."),
    examples=("uw-madison/nystromformer-512",),
)
