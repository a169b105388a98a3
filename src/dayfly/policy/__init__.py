"""What a site allows: who may run which image, in what machine."""
