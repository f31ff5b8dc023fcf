"""Many pictures: folders with captions beside them, and shards. Everything here can be stopped and started again."""
