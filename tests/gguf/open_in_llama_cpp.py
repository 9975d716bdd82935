"""Open a GGUF file in llama.cpp: python open_in_llama_cpp.py FILE COUNT, and JSON {"texts", "ids"} on stdin. Prints the
ids of each text, the COUNT tokens that greedily follow ids, and the logits at ids. A process of its own: llama.cpp may
die."""

import json
import sys

import llama_cpp

F32 = 0  # of the cache: its default of f16 is a rounding of its own
path, count = sys.argv[1], int(sys.argv[2])
asked = json.load(sys.stdin)
model = llama_cpp.Llama(path, n_ctx=256, verbose=False, logits_all=True, type_k=F32, type_v=F32)
tokens = [model.tokenize(text.encode(), add_bos=False, special=True) for text in asked["texts"]]
written: list[int] = []
for token in model.generate(asked["ids"], temp=0.0, top_k=1) if count else ():
    written.append(token)
    if len(written) == count:
        break
pieces = [model.detokenize([token], special=True).decode("utf-8", "replace") for token in asked["ids"]]
model.reset()
model.eval(asked["ids"])
small = model.n_vocab() < 1000
told = {
    "tokens": tokens,
    "written": written,
    "pieces": pieces,
    "template": model.metadata.get("tokenizer.chat_template"),
    "logits": model.scores[: len(asked["ids"])].tolist() if small else None,
}
print(json.dumps(told))
