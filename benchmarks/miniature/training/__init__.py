"""How the miniature's models are trained: text encoder, VAE, U-Net, scorers, judges."""
