// Room Tokenization.
