"""RS5M: PUB11 from public image-text sets, RS3 from sets without captions, meta captions.

Zhang et al., 2024 (arXiv 2306.11300; om-ai-lab/RS5M 084cdd9, which holds the extraction of
meta captions alone; the rest is from the paper).
"""
