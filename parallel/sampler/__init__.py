"""One job on one rank: load, encode, draw noise, denoise, decode."""
