"""A service as tutorials write it: one request, one forward pass; what ours is compared with.

`python -m benchmarks.tutorial_server WEIGHTS PORT`
"""

from __future__ import annotations

import io
import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from torchvision.transforms import v2

from resnetlab import load_checkpoint


def create_app(weights: str) -> FastAPI:
    checkpoint = load_checkpoint(weights)
    p = checkpoint.preprocessing
    model = checkpoint.build()
    transform = v2.Compose(
        [
            v2.Resize(p.resize or p.size),
            v2.CenterCrop(p.size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(p.mean, p.std),
        ]
    )
    app = FastAPI()

    @app.post("/predict")
    async def predict(image: UploadFile = File()) -> dict[str, Any]:  # noqa: B008
        picture = Image.open(io.BytesIO(await image.read())).convert("RGB")
        with torch.no_grad():
            probabilities = model(transform(picture).unsqueeze(0)).softmax(1)[0]
        top = probabilities.topk(5)
        return {checkpoint.classes[i]: float(p) for p, i in zip(*top, strict=True)}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), log_level="warning")
