"""picturebook, the bundled model: a small world of pictographs with its CLIP and its judge."""
