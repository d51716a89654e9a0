"""SANE: a sequence autoencoder of tokens of weights, for networks of any architecture."""
