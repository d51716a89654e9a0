"""Files here or at a URL: locations, atomic writes, TOML into checked models, the Hugging Face Hub."""
