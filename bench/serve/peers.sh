#!/bin/sh
# Makes the environments of bench.serve's peers. wrk makes the load: apt-get install wrk.
#
#   bench/serve/peers.sh           below build/peers, or below $EDGELOOP_PEERS
. "$(dirname "$0")/../peers.sh"

mkdir -p "$FOLDER"
make_without_torch fastapi fastapi,uvicorn,onnxruntime,tokenizers \
    fastapi==0.121.3 'uvicorn[standard]' onnxruntime==1.32.0 tokenizers
make_without_torch litserve litserve,onnxruntime,tokenizers \
    litserve==0.2.19 onnxruntime==1.32.0 tokenizers
make_without_torch bentoml bentoml,onnxruntime,tokenizers \
    bentoml==1.4.39 onnxruntime==1.32.0 tokenizers
make_without_torch mlserver mlserver,onnxruntime,tokenizers \
    mlserver==1.7.1 onnxruntime==1.32.0 tokenizers
exit 0
