"""Hyper-representations: a transformer autoencoder of weights, trained by contrast and reconstruction."""
