"""The baselines that the reference encoders must beat."""
