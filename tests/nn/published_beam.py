"""The published caption loop, written again in its order of work: batch 1, no cache, 52 positions.

Every step runs the decoder over all 52 positions of every beam, with the memories copied for each
beam, and reads the logits of one position. Rules of MModalCC and RSICCformer's evaluation scripts.
"""

import torch


@torch.no_grad()
def published_loop(decoder, memories, *, start, end, beam_size, positions=52):
    """One image: memories [1, S, D]. Returns (ids with start and end, score) of each ended beam.

    The list is empty where no beam ends: the published evaluation then leaves the image out.
    """
    width = beam_size
    table = torch.zeros(width, positions, dtype=torch.long)
    table[:, 0] = start
    sequences = torch.full((width, 1), start)
    totals = torch.zeros(width, 1)
    copies = [memory.expand(width, -1, -1) for memory in memories]
    ended = []
    for step in range(1, positions):
        logits = decoder([copy.contiguous() for copy in copies], table)
        scores = totals + logits[:, step - 1].log_softmax(-1)
        # At the first step all beams are the same, so one of them is expanded.
        flat = scores[0] if step == 1 else scores.flatten()
        best, place = flat.topk(width)
        beams, words = place // logits.shape[-1], place % logits.shape[-1]
        sequences = torch.cat([sequences[beams], words.unsqueeze(1)], dim=1)
        going = words != end
        for row in (~going).nonzero().flatten().tolist():
            ended.append((sequences[row].tolist(), float(best[row])))
        width = int(going.sum())
        if width == 0:
            break
        sequences, totals = sequences[going], best[going].unsqueeze(1)
        copies = [copy[beams[going]] for copy in copies]
        table = table[:width].clone()
        table[:, : step + 1] = sequences
    return ended


def published_best(ended):
    """The winner of `published_loop`: the first of the best."""
    return max(ended, key=lambda pair: pair[1]) if ended else None
