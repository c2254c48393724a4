"""Training in eight bits: where a network is quantized, and the quantizers that training learns."""
