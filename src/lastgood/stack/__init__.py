"""The local stack: the processes behind `lastgood up` and `lastgood down`."""
