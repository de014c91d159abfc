"""Learn handwritten digits by a variational autoencoder: a network's latent code for each image.

The data are scikit-learn's 1,797 images of 8 × 8 pixels with 17 grey levels (Alpaydin & Kaynak 1998). The
model and its amortised guide follow Kingma & Welling 2014, arXiv 1312.6114.
Run it by ``python -m ember.examples.digits --output DIR``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ember
import ember.distributions as dist
from ember.infer import SVI, Trace_ELBO
from ember.nn import DenseNN

LEVELS = 16


def load() -> tuple[Tensor, Tensor]:
    """Return images ``(1797, 64)`` with values 0 … 16, and which digit each one is."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data, dtype=torch.get_default_dtype()), torch.tensor(found.target)


class VAE(nn.Module):
    """Decoder, encoder, and the model and guide that they belong to."""

    def __init__(self, latent: int = 2, hidden: int = 128) -> None:
        super().__init__()
        self.latent = latent
        self.decoder = DenseNN(latent, [hidden, hidden], [64], nonlinearity=nn.Softplus())
        self.encoder = DenseNN(64, [hidden, hidden], [latent, latent], nonlinearity=nn.Softplus())

    def model(self, images: Tensor) -> None:
        """Let each pixel's level be binomial with a probability decoded from the image's code."""
        ember.module("decoder", self.decoder)
        with ember.plate("images", len(images)):
            code = ember.sample("code", dist.Normal(images.new_zeros(self.latent), 1.0).to_event(1))
            ember.sample("pixels", dist.Binomial(LEVELS, logits=self.decoder(code)).to_event(1), obs=images)

    def guide(self, images: Tensor) -> None:
        """Draw each code from a normal distribution encoded from the image."""
        ember.module("encoder", self.encoder)
        with ember.plate("images", len(images)):
            loc, log_scale = self.encoder(images / LEVELS)
            ember.sample("code", dist.Normal(loc, log_scale.exp()).to_event(1))

    def encode(self, images: Tensor) -> Tensor:
        """Return the centres of the images' codes."""
        return self.encoder(images / LEVELS)[0]

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return expected levels after encoding and decoding."""
        return LEVELS * self.decoder(self.encode(images)).sigmoid()


def train(images: Tensor, epochs: int = 120, batch: int = 128, latent: int = 2) -> tuple[VAE, list[float]]:
    """Return the trained autoencoder and the loss per image of each epoch."""
    vae = VAE(latent)
    schedule = ember.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 5e-3}, "gamma": 0.05 ** (1 / epochs)}
    )
    svi = SVI(vae.model, vae.guide, schedule, Trace_ELBO())
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(images))
        losses.append(sum(svi.step(images[rows]) for rows in order.split(batch)) / len(images))
        schedule.step()
    return vae, losses


@torch.no_grad()
def plot(vae: VAE, images: Tensor, labels: Tensor, folder: Path) -> list[Path]:
    """Draw reconstructions, and the map of codes, as PNG files."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    chosen = torch.stack([images[labels == digit][0] for digit in range(10)])
    figure = Figure(figsize=(10, 2.4), layout="constrained")
    axes: Any = figure.subplots(2, 10)
    for row, pictures in enumerate((chosen, vae.reconstruct(chosen))):
        for column, picture in enumerate(pictures):
            axes[row, column].imshow(picture.reshape(8, 8).numpy(), cmap="gray_r", vmin=0, vmax=LEVELS)
            axes[row, column].set_axis_off()
    figure.suptitle("images and their reconstructions")
    paths = [folder / "reconstructions.png", folder / "codes.png"]
    figure.savefig(paths[0], dpi=120)

    figure = Figure(figsize=(6, 5), layout="constrained")
    axis: Any = figure.subplots()
    codes = vae.encode(images).numpy()
    points = axis.scatter(codes[:, 0], codes[:, 1], c=labels.numpy(), cmap="tab10", s=8)
    figure.colorbar(points, ticks=range(10), label="digit")
    axis.set(xlabel="first coordinate", ylabel="second coordinate", title="codes of the images")
    figure.savefig(paths[1], dpi=120)
    return paths


def main() -> None:
    """Train on all images, print the loss, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--epochs", type=int, default=120)
    options = parser.parse_args()
    ember.set_rng_seed(0)
    images, labels = load()
    vae, losses = train(images, options.epochs)
    error = (vae.reconstruct(images) - images).square().mean().sqrt()
    print(f"loss per image {losses[0]:.1f} -> {losses[-1]:.1f}, error of a pixel {error:.2f} of {LEVELS}")
    for path in plot(vae, images, labels, options.output):
        print(path)


if __name__ == "__main__":
    main()
