"""MLServer with ONNX Runtime: `mlserver start FOLDER`; its model-settings.json names this class."""

import os
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from peer_model import PeerModel


class PeerRuntime(MLModel):
    async def load(self) -> bool:
        self.model = PeerModel(Path(os.environ["PEER_FOLDER"]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (text,) = StringCodec.decode_input(payload.inputs[0])
        label = self.model.predict(text)["label"]
        return InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("label", [label])]
        )
