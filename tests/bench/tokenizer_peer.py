"""The other side of tokenizer_bench: Hugging Face's tokenizers on the same files, one thread, processor time.
Usage: tokenizer_peer.py tokenizer.json files.json. Prints one JSON object; nothing when the package is absent."""
import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
try:
    import tokenizers
except ImportError:
    sys.exit(0)

tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
with open(sys.argv[2], encoding="utf-8") as listed:
    texts = [open(name, encoding="utf-8", errors="replace", newline="").read() for name in json.load(listed)]


def encode_all():
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def timed():
    begin = time.process_time()
    encode_all()
    return time.process_time() - begin


first = timed()
seconds = [timed()]
while sum(seconds) < 4:
    seconds.append(timed())
checksum = 0
lists = encode_all()
for ids in lists:
    for value in ids:
        checksum = (checksum * 31 + value) % 1000000007
print(json.dumps({"version": tokenizers.__version__, "first_seconds": first, "best_seconds": min(seconds),
                  "ids": sum(map(len, lists)), "checksum": checksum}))
