"""The commands that use word vectors: nearest, analogy, similarity, odd, mean, evaluate, map, convert."""
