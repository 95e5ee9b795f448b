"""LitServe with ONNX Runtime: python peer_litserve.py FOLDER PORT WORKERS."""

import sys
from pathlib import Path

import litserve
from peer_model import PeerModel


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = PeerModel(Path(sys.argv[1]))

    def decode_request(self, request: dict) -> str:
        return request["inputs"]

    def predict(self, text: str) -> dict:
        return self.model.predict(text)

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="error")
