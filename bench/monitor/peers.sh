#!/bin/sh
# Makes the environments of bench.monitor's peers. alibi-detect's licence (BSL 1.1) allows this
# comparison and not production.
#
#   bench/monitor/peers.sh         below build/peers, or below $EDGELOOP_PEERS
. "$(dirname "$0")/../peers.sh"

mkdir -p "$FOLDER"
# scipy's windowed Kolmogorov-Smirnov test lives in the same environment.
make_without_torch river river.drift,scipy.stats river==0.26.1 scipy
# pandas 3 has no infer_dtype_from_object any more, which this evidently imports.
make_without_torch evidently evidently.legacy.metrics evidently==0.7.23 'pandas<3'
make alibi alibi_detect.cd,torch alibi-detect==0.13.0
exit 0
