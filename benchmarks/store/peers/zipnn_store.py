"""Compresses each file by ZipNN, as float32; prints the bytes of all. `zipnn_store.py FOLDER FILE…`."""

import sys
from pathlib import Path

from zipnn import ZipNN

total = 0
for file in sys.argv[2:]:
    data = Path(file).read_bytes()
    packed = ZipNN(bytearray_dtype="float32", input_format="byte").compress(bytearray(data))
    total += len(packed)
print(total)
