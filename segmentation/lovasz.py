"""The Lovász-softmax loss: a surrogate of mean IoU itself, in which a rare class counts as much as a common one."""

import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """The mean over the occurring classes of the Lovász extension of 1 - IoU (Berman et al., CVPR 2018, eq. 8-11).

    `probabilities` [P, K], `labels` int64 [P] below K, `valid` bool [P]: other pixels are ignored. 0 with a
    gradient if no pixel is valid. All pixels together, not image by image; no device sync.
    """
    num_classes = probabilities.shape[1]
    truth = (labels[None] == torch.arange(num_classes, device=labels.device)[:, None]) & valid  # [K, P]
    errors = (truth.to(probabilities) - probabilities.t()).abs() * valid
    errors, order = errors.sort(dim=1, descending=True)  # ignored pixels have error 0 and sort last
    truth = truth.gather(1, order).to(probabilities)
    total = truth.sum(dim=1, keepdim=True)
    found = truth.cumsum(dim=1)
    union = total + (1 - truth).cumsum(dim=1)
    loss = 1 - (total - found) / union
    loss = torch.cat((loss[:, :1], loss[:, 1:] - loss[:, :-1]), dim=1)  # the cost of each further error
    present = total[:, 0] > 0
    each = (errors * loss).sum(dim=1)
    return (each * present).sum() / present.sum().clamp(min=1)
