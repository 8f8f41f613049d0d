// Room Quantization.
