"""scGPT's task heads as PyTorch modules, under the names of its state dict.

scripts/generate/head-goldens writes golden values from them, and the comparison with peers times them: the
operations and their order are scGPT's, with every token decoded and every query computed per token.
"""

import torch
from torch import nn


def perceptron(inputs, width):
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, 1)
    )


class ExpressionDecoder(nn.Module):
    """Values from token states, each with the embedding of its cell's batch label where there is one."""

    def __init__(self, width, explicit_zeros, batch_labels):
        super().__init__()
        inputs = 2 * width if batch_labels else width
        self.fc = perceptron(inputs, width)
        if explicit_zeros:
            self.zero_logit = perceptron(inputs, width)

    def forward(self, states, batch=None):
        x = states
        if batch is not None:
            x = torch.cat([x, batch.unsqueeze(1).repeat(1, states.shape[1], 1)], dim=2)
        outputs = {"predictions": self.fc(x)[..., 0]}
        if hasattr(self, "zero_logit"):
            outputs["nonzeroProbabilities"] = torch.sigmoid(self.zero_logit(x)[..., 0])
        return outputs


class InnerProductDecoder(nn.Module):
    """Values from cell embeddings and the genes' queries, by inner products."""

    def __init__(self, width, explicit_zeros, batch_labels, detach):
        super().__init__()
        outputs = 2 * width if batch_labels else width
        self.detach = detach
        self.gene2query = nn.Linear(width, width)
        self.W = nn.Linear(width, outputs, bias=False)
        if explicit_zeros:
            self.W_zero_logit = nn.Linear(width, outputs)

    def forward(self, cell, genes, batch=None):
        if batch is not None:
            cell = torch.cat([cell, batch], dim=1)
        query = torch.sigmoid(self.gene2query(genes.detach() if self.detach else genes))
        outputs = {"predictions": torch.bmm(self.W(query), cell.unsqueeze(2)).squeeze(2)}
        if hasattr(self, "W_zero_logit"):
            logits = torch.bmm(self.W_zero_logit(query), cell.unsqueeze(2)).squeeze(2)
            outputs["nonzeroProbabilities"] = torch.sigmoid(logits)
        return outputs


class HiddenLayerDecoder(nn.Module):
    """Values from cell embeddings and the genes' queries, concatenated or added, by a hidden layer."""

    def __init__(self, width, hidden, concatenate):
        super().__init__()
        self.concatenate = concatenate
        self.gene2query = nn.Linear(width, hidden if concatenate else width)
        self.fc1 = nn.Linear(width + hidden if concatenate else width, hidden)
        self.hidden_activation = nn.PReLU()
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, cell, genes):
        query = torch.sigmoid(self.gene2query(genes))
        cell = cell[:, None].expand(-1, genes.shape[1], -1)
        x = torch.cat([cell, query], dim=2) if self.concatenate else cell + query
        return {"predictions": self.fc2(self.hidden_activation(self.fc1(x)))[..., 0]}


class Classifier(nn.Module):
    """Logits from cell embeddings; with a strength, behind a gradient reversal."""

    def __init__(self, width, classes, blocks, activation, strength=None):
        super().__init__()
        layers = [(nn.Linear(width, width), activation(), nn.LayerNorm(width)) for _ in range(blocks)]
        self._decoder = nn.ModuleList([layer for block in layers for layer in block])
        self.out_layer = nn.Linear(width, classes)
        self.strength = strength

    def forward(self, cell):
        x = cell * 1
        if self.strength is not None:
            x.register_hook(lambda g: -self.strength * g)
        for layer in self._decoder:
            x = layer(x)
        return {"logits": self.out_layer(x)}


class BatchLabelEncoder(nn.Module):
    def __init__(self, batches, width):
        super().__init__()
        self.embedding = nn.Embedding(batches, width)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, labels):
        return {"embeddings": self.enc_norm(self.embedding(labels))}
