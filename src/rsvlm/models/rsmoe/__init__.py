"""RS-MoE: an instruction router and light language models as experts."""
