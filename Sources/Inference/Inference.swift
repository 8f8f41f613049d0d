// Room Inference.
