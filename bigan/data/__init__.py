"""Data sets: packed once into webdataset shards (`pack`), then read by position in an endless, repeatable order (`stream`)."""
