import numpy as np
import pytest
import torch

from nontrivial.data.batches import ResidentSamples, normalization
from nontrivial.errors import UserError
from nontrivial.training.validation import BATCH_SIZE, accuracy, mean_dice

CPU = torch.device("cpu")
SAME = normalization([0.0], [1.0], CPU)


class FromPixels(torch.nn.Module):
    """Reads the predicted class from the image itself; dropout would show training mode."""

    def __init__(self, classes, picture):
        super().__init__()
        self.classes, self.picture = classes, picture
        self.dropout = torch.nn.Dropout(0.999)

    def forward(self, images):
        classes = images[:, 0].long()
        logits = torch.nn.functional.one_hot(classes, self.classes).movedim(-1, 1).float()
        return self.dropout(logits if self.picture else logits[:, :, 0, 0])


def test_accuracy_over_several_batches():
    labels = torch.arange(10 * (BATCH_SIZE // 4)) % 4
    images = labels.clone()
    images[::10] = (images[::10] + 1) % 4  # one in ten is wrong
    model = FromPixels(4, picture=False).train()
    samples = ResidentSamples(images[:, None, None, None], labels)
    assert accuracy(model, samples, SAME) == pytest.approx(0.9)
    assert model.training


def test_dice_is_summed_over_the_slices_of_a_subject_then_averaged():
    # Subject a: class 1 tp 1, fp 1, fn 0 over two slices (2/3), no class 2.
    # Subject b: class 1 tp 1, fp 0, fn 0 (1), class 2 tp 2, fp 0, fn 1 (4/5).
    # Subject c has no foreground: left out, whatever is predicted.
    predicted = torch.tensor([[[1, 0]], [[1, 0]], [[2, 2]], [[0, 1]], [[1, 1]]])
    true = torch.tensor([[[1, 0]], [[0, 0]], [[2, 2]], [[2, 1]], [[0, 0]]], dtype=torch.uint8)
    samples = ResidentSamples(predicted[:, None].float(), true)
    subjects = np.array(["a", "a", "b", "b", "c"])
    found = mean_dice(FromPixels(3, picture=True), samples, SAME, subjects, 3)
    assert found == pytest.approx((2 / 3 + (1 + 4 / 5) / 2) / 2)


def test_without_foreground_there_is_no_dice():
    nothing = torch.zeros((1, 1, 2), dtype=torch.uint8)
    samples = ResidentSamples(torch.zeros((1, 1, 1, 2)), nothing)
    with pytest.raises(UserError, match="no subject of the split has foreground"):
        mean_dice(FromPixels(3, picture=True), samples, SAME, np.array(["a"]), 3)
