"""Loss terms, each with the source of its formula.

A term takes tensors and returns one number; weights, switches and schedules are the engine's.
Importing this package loads no torch; its modules do.
"""
