"""Which patch gets how many bits: controller, entropy, budget."""
