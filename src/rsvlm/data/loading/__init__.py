"""From a data set to the loader: transforms, order, mixtures, shards, wrappers."""
