"""FastAPI with ONNX Runtime by uvicorn: python peer_fastapi.py FOLDER PORT WORKERS THREADS."""

import os
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from peer_model import PeerModel
from pydantic import BaseModel

app = FastAPI()
FOLDER = Path(os.environ.get("PEER_FOLDER", "."))
THREADS = int(os.environ.get("PEER_THREADS", "1"))
model = PeerModel(FOLDER, THREADS) if "PEER_FOLDER" in os.environ else None


class Body(BaseModel):
    inputs: str


@app.post("/predict")
async def predict(body: Body) -> dict:
    return model.predict(body.inputs)


if __name__ == "__main__":
    os.environ["PEER_FOLDER"], os.environ["PEER_THREADS"] = sys.argv[1], sys.argv[4]
    uvicorn.run(
        "peer_fastapi:app", port=int(sys.argv[2]), workers=int(sys.argv[3]), log_level="error"
    )
