"""BentoML with ONNX Runtime: bentoml serve peer_bentoml:Classifier; PEER_FOLDER says of what."""

import os
from pathlib import Path

import bentoml
from peer_model import PeerModel


@bentoml.service(workers=2)
class Classifier:
    def __init__(self) -> None:
        self.model = PeerModel(Path(os.environ["PEER_FOLDER"]))

    @bentoml.api
    def predict(self, inputs: str) -> dict:
        return self.model.predict(inputs)
