"""Open a GGUF file in llama.cpp: python open_in_llama_cpp.py FILE COUNT, and JSON {"texts", "ids"} on stdin. Prints the
ids of each text, and the COUNT tokens that greedily follow ids. A process of its own: llama.cpp may die."""

import json
import sys

import llama_cpp

path, count = sys.argv[1], int(sys.argv[2])
asked = json.load(sys.stdin)
model = llama_cpp.Llama(path, n_ctx=0, verbose=False)
tokens = [model.tokenize(text.encode(), add_bos=False, special=True) for text in asked["texts"]]
written: list[int] = []
for token in model.generate(asked["ids"], temp=0.0, top_k=1) if count else ():
    written.append(token)
    if len(written) == count:
        break
pieces = [model.detokenize([token], special=True).decode("utf-8", "replace") for token in asked["ids"]]
print(
    json.dumps(
        {
            "tokens": tokens,
            "written": written,
            "pieces": pieces,
            "template": model.metadata.get("tokenizer.chat_template"),
        }
    )
)
