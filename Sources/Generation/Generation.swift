// Room Generation.
