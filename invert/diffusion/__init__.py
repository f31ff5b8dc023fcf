"""Prompt → image: the generator, what its denoiser says about pictures, and the round trip."""
