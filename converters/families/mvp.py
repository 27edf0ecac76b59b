"""MVP and PLBART: BART by other names."""

from dataclasses import replace

from converters.families.bart import BART, arch
from converters.family import require
from jaxpool.nn.arch import Arch


def mvp_arch(config) -> Arch:
    """MVP: BART; without the prompts that some of its checkpoints put before keys and values."""
    require(config, use_prompt=False)
    return arch(config)


def plbart_arch(config) -> Arch:
    """PLBART: BART whose last token, a language, comes first."""
    return arch(config, start=-1)


MVP = replace(BART, name="Mvp", arch=mvp_arch, examples=("RUCAIBox/mvp",))
PLBART = replace(BART, name="PLBart", arch=plbart_arch, examples=("uclanlp/plbart-base",))
