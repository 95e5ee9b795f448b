#!/bin/sh
# Makes the environments of bench.compress's peers: they do not agree with ours on transformers.
#
#   bench/compress/peers.sh        below build/peers, or below $EDGELOOP_PEERS
. "$(dirname "$0")/../peers.sh"

mkdir -p "$FOLDER"
# sentence-transformers: optimum exports pooling and head with the encoder only where it is there.
make optimum optimum.onnxruntime,sentence_transformers \
    'optimum-onnx[onnxruntime]==0.1.0' sentence-transformers
# onnxruntime and requests: needed to start, and not declared by olive-ai.
make olive olive,onnxruntime olive-ai==0.13.0 onnxruntime requests
exit 0
