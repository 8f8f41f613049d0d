// Room ExpertStreaming.
