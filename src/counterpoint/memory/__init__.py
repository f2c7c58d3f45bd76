"""What lives across steps: queue, keyed bank, prototypes, codebook, running statistics, teacher.

Every memory is a `Memory` (memory/base.py): a module whose whole state is buffers and parameters, so that a
checkpoint carries it. ``Memory.example(seed)`` builds a small one together with a function that exercises its
update. What lasts from the losses of one step to its end is `pending`.
"""
