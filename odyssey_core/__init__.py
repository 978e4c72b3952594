"""The core: tensors as nodes of a graph, layers, optimizers, data, and the backends that run them."""

import time

IMPORTED = time.time()  # seconds since 1970: what is in memory is the source of then
