"""One vector of a query or of a page on Qwen2.5-VL, the last token's: nomic-embed-multimodal.

Words are those that colpali-engine had when the model was trained. Texts are queries unless a
caller says otherwise.
"""

from dataclasses import replace

from converters.families.colqwen import COLQWEN2_5, WORDS

END = "<|endoftext|>"
BIQWEN2_5 = replace(
    COLQWEN2_5,
    name="BiQwen2_5",
    heads={},
    conversation=replace(
        WORDS, read=f"Query: {{content}}{END}", sides={"document": f"{{content}}{END}"}
    ),
    examples=("nomic-ai/nomic-embed-multimodal-3b", "nomic-ai/nomic-embed-multimodal-7b"),
)
