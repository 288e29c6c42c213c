"""Any image-text model of transformers."""
